//! The routed lab: the balancer is the way between a client and the servers.
//!
//! ```text
//! client c0 ── lc lb lb1 ── e1 web1
//!                    lb2 ── e2 web2   …
//! ```
//! The client net is 10.10.0.0/24 and fd00:10::/64, server N's is 10.20.N.0/24 and fd00:20:N::/64,
//! the balancer being .1 and ::1 everywhere, the others .2 and ::2. The VIPs are on `lc`.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

use anyhow::{Result, ensure};

use crate::address::{Network, VIP4, VIP6};
use crate::lab::Lab;
use crate::nginx::{Nginx, NginxConfig};

const CLIENT_NET: Network = Network::new(10, 0);

/// A routed lab; it is a [`Lab`] whose namespaces are `client`, `lb`, `web1`, `web2`, ….
#[derive(Debug)]
pub struct Routed {
    lab: Lab,
    servers: u8,
}

impl Routed {
    /// A lab of this process with so many servers.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn new(servers: u8) -> Result<Self> {
        Self::build(Lab::new()?, servers)
    }

    /// Wires an empty lab.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn build(mut lab: Lab, servers: u8) -> Result<Self> {
        ensure!((1..=250).contains(&servers), "a lab has 1 to 250 servers");
        let balancer = lab.add("lb")?;
        balancer.sysctl("net.ipv4.ip_forward", "1")?;
        balancer.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        lab.add("client")?;
        connect(&lab, ("lc", "client", "c0"), CLIENT_NET)?;
        lab.namespace("lb")?.ip_batch(&format!(
            "addr add {VIP4}/32 dev lc\naddr add {VIP6}/128 dev lc nodad\n"
        ))?;
        for number in 1..=servers {
            let server = format!("web{number}");
            lab.add(&server)?;
            let (near, far) = (format!("lb{number}"), format!("e{number}"));
            connect(&lab, (&near, &server, &far), Self::server_net(number))?;
        }
        Ok(Self { lab, servers })
    }

    /// Gives every end opposite the balancer an XDP program that passes everything, so that what
    /// the balancer answers by `XDP_TX` in native mode (resets, ICMP errors) arrives.
    ///
    /// # Errors
    /// When the program cannot be loaded or attached.
    pub fn receive_native_tx(&self) -> Result<()> {
        self.lab.attach_pass("client", "c0")?;
        (1..=self.servers).try_for_each(|number| {
            self.lab
                .attach_pass(&format!("web{number}"), &format!("e{number}"))
        })
    }

    /// The addresses of server `number`, counted from 1.
    #[must_use]
    pub fn server_addresses(number: u8) -> [IpAddr; 2] {
        let net = Self::server_net(number);
        [net.v4(2).into(), net.v6(2).into()]
    }

    /// The addresses of the client.
    #[must_use]
    pub fn client_addresses() -> [IpAddr; 2] {
        [CLIENT_NET.v4(2).into(), CLIENT_NET.v6(2).into()]
    }

    /// The balancer's interfaces: towards the client, then towards each server.
    #[must_use]
    pub fn balancer_interfaces(&self) -> Vec<String> {
        let servers = (1..=self.servers).map(|number| format!("lb{number}"));
        ["lc".to_owned()].into_iter().chain(servers).collect()
    }

    /// How many servers it has.
    #[must_use]
    pub fn servers(&self) -> u8 {
        self.servers
    }

    /// Starts nginx as server `number` on this port of both its addresses.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_nginx(&self, number: u8, port: u16) -> Result<Nginx> {
        self.start_nginx_with(number, port, String::new())
    }

    /// The same with further lines of its `http` block.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_nginx_with(&self, number: u8, port: u16, more: String) -> Result<Nginx> {
        let name = format!("web{number}");
        let addresses = Self::server_addresses(number);
        let listen = addresses
            .map(|address| SocketAddr::new(address, port))
            .to_vec();
        Nginx::start(
            &self.lab,
            NginxConfig {
                namespace: name.clone(),
                name,
                listen,
                more,
            },
        )
    }

    fn server_net(number: u8) -> Network {
        Network::new(20, number)
    }
}

impl Deref for Routed {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// Joins a namespace to the balancer: a veth pair, addresses, a default route by the balancer.
fn connect(lab: &Lab, (near, name, far): (&str, &str, &str), net: Network) -> Result<()> {
    lab.join(("lb", near), (name, far))?;
    lab.namespace("lb")?.ip_batch(&format!(
        "addr add {}/24 dev {near}\naddr add {}/64 dev {near} nodad\n",
        net.v4(1),
        net.v6(1)
    ))?;
    lab.namespace(name)?.ip_batch(&format!(
        "addr add {}/24 dev {far}\naddr add {}/64 dev {far} nodad\n\
         route add default via {}\nroute add ::/0 via {}\n",
        net.v4(2),
        net.v6(2),
        net.v4(1),
        net.v6(1)
    ))?;
    lab.prepare_end(name, far)
}
