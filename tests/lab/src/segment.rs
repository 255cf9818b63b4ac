//! The one-segment lab: client, balancer and servers are neighbours on a switch, and the balancer
//! has one interface only.
//!
//! ```text
//! client c0 ─┐        ┌─ e1 web1
//!            ├ switch ┤
//!     lb l0 ─┘        └─ e2 web2   …
//! ```
//! The net is 10.30.0.0/24 and fd00:30::/64: the balancer .1, the client .2, server N .(10 + N).
//! The client reaches the VIPs by the balancer; the servers have them on `lo` and do not say so,
//! and answer the client directly.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use anyhow::{Result, ensure};

use crate::address::{Network, VIP4, VIP6};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::nginx::{Nginx, NginxConfig};

const NET: Network = Network::new(30, 0);
const BALANCER: u8 = 1;
const CLIENT: u8 = 2;
const FIRST_SERVER: u8 = 11;

/// A one-segment lab; it is a [`Lab`] whose namespaces are `switch`, `client`, `lb`, `web1`, ….
/// The switch's ports are `pc`, `pl`, `p1`, `p2`, ….
#[derive(Debug)]
pub struct Segment {
    lab: Lab,
    servers: u8,
}

impl Segment {
    /// A lab of this process with so many servers.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn new(servers: u8) -> Result<Self> {
        Self::build(Lab::new()?, servers)
    }

    /// The same with servers that are not prepared: nothing on `lo`, ARP as usual, and strict
    /// reverse path filtering.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn unprepared(servers: u8) -> Result<Self> {
        Self::wire(Lab::new()?, servers, unprepared_server)
    }

    /// Wires an empty lab.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn build(lab: Lab, servers: u8) -> Result<Self> {
        Self::wire(lab, servers, prepared_server)
    }

    fn wire(mut lab: Lab, servers: u8, prepare: impl Fn(&Namespace) -> Result<()>) -> Result<Self> {
        ensure!((1..=200).contains(&servers), "a lab has 1 to 200 servers");
        lab.add("switch")?
            .ip("link add br0 up type bridge stp_state 0 mcast_snooping 0")?;
        lab.add("lb")?.sysctl("net.ipv4.ip_forward", "1")?;
        plug_in(&lab, ("pl", "lb", "l0"), BALANCER)?;
        lab.namespace("lb")?.ip_batch(&format!(
            "addr add {VIP4}/32 dev l0\naddr add {VIP6}/128 dev l0 nodad\n"
        ))?;
        lab.add("client")?;
        plug_in(&lab, ("pc", "client", "c0"), CLIENT)?;
        lab.namespace("client")?.ip_batch(&format!(
            "route add {VIP4} via {}\nroute add {VIP6} via {}\n",
            NET.v4(BALANCER),
            NET.v6(BALANCER)
        ))?;
        for number in 1..=servers {
            let name = format!("web{number}");
            prepare(lab.add(&name)?)?;
            let ends = (&*format!("p{number}"), &*name, &*format!("e{number}"));
            plug_in(&lab, ends, FIRST_SERVER + number - 1)?;
        }
        Ok(Self { lab, servers })
    }

    /// Gives the balancer's port of the switch an XDP program that passes everything, so that what
    /// the balancer sends back by `XDP_TX` in native mode arrives.
    ///
    /// # Errors
    /// When the program cannot be loaded or attached.
    pub fn receive_native_tx(&self) -> Result<()> {
        self.lab.attach_pass("switch", "pl")
    }

    /// The addresses of server `number`, counted from 1.
    #[must_use]
    pub fn server_addresses(number: u8) -> [IpAddr; 2] {
        let host = FIRST_SERVER + number - 1;
        [NET.v4(host).into(), NET.v6(host).into()]
    }

    /// The balancer's own addresses, beside those of the services.
    #[must_use]
    pub fn balancer_addresses() -> [IpAddr; 2] {
        [NET.v4(BALANCER).into(), NET.v6(BALANCER).into()]
    }

    /// The addresses of the client.
    #[must_use]
    pub fn client_addresses() -> [IpAddr; 2] {
        [NET.v4(CLIENT).into(), NET.v6(CLIENT).into()]
    }

    /// How many servers it has.
    #[must_use]
    pub fn servers(&self) -> u8 {
        self.servers
    }

    /// Starts nginx as server `number` on this port of both its addresses and of the VIPs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_nginx(&self, number: u8, port: u16) -> Result<Nginx> {
        let name = format!("web{number}");
        let [v4, v6] = Self::server_addresses(number);
        let listen = [v4, v6, VIP4.into(), VIP6.into()]
            .map(|address| SocketAddr::new(address, port))
            .to_vec();
        Nginx::start(
            &self.lab,
            NginxConfig {
                namespace: name.clone(),
                name,
                listen,
                more: String::new(),
            },
        )
    }
}

impl Deref for Segment {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// The VIP is on every server: none may claim it on the segment.
fn prepared_server(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    namespace.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
    namespace.ip_batch(&format!(
        "addr add {VIP4}/32 dev lo\naddr add {VIP6}/128 dev lo nodad\n"
    ))
}

fn unprepared_server(namespace: &Namespace) -> Result<()> {
    for scope in ["all", "default"] {
        namespace.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "1")?;
    }
    Ok(())
}

/// Joins a namespace to the switch and gives its end the addresses of this host number.
fn plug_in(lab: &Lab, (port, name, end): (&str, &str, &str), host: u8) -> Result<()> {
    lab.join(("switch", port), (name, end))?;
    lab.namespace("switch")?
        .ip(&format!("link set dev {port} master br0"))?;
    lab.namespace(name)?.ip_batch(&format!(
        "addr add {}/24 dev {end}\naddr add {}/64 dev {end} nodad\n",
        NET.v4(host),
        NET.v6(host)
    ))?;
    lab.prepare_end(name, end)
}
