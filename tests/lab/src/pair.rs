//! The lab with two balancers between a client and the servers.
//!
//! ```text
//! client c0 ─┐         ┌─ f0 lb1 b0 ─┐         ┌─ e1 web1
//!            ├─ front ─┤             ├─ back ──┤
//!                      └─ f0 lb2 b0 ─┘         └─ e2 web2   …
//! ```
//! `front` and `back` are bridges in the namespace `switch`. The front net is 10.40.0.0/24, the back
//! net 10.41.0.0/24; balancer N is .N in both, the client .20, server N .(10 + N). Who of the two is
//! active has the VIP on `f0` and the servers' gateway, .100, on `b0`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;

use anyhow::{Result, ensure};

use crate::address::{Network, VIP4};
use crate::lab::Lab;
use crate::nginx::{Nginx, NginxConfig};

const FRONT: Network = Network::new(40, 0);
const BACK: Network = Network::new(41, 0);
const CLIENT: u8 = 20;
const FIRST_SERVER: u8 = 11;
const GATEWAY: u8 = 100;

/// A lab of two balancers; it is a [`Lab`] whose namespaces are `switch`, `client`, `lb1`, `lb2`,
/// `web1`, ….
#[derive(Debug)]
pub struct Pair {
    lab: Lab,
    servers: u8,
}

impl Pair {
    /// A lab of this process with so many servers. Nobody is active.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn new(servers: u8) -> Result<Self> {
        ensure!((1..=50).contains(&servers), "a pair has 1 to 50 servers");
        let mut lab = Lab::new()?;
        lab.add("switch")?.ip_batch(
            "link add front up type bridge stp_state 0 mcast_snooping 0\n\
             link add back up type bridge stp_state 0 mcast_snooping 0\n",
        )?;
        for number in [1, 2] {
            let name = balancer(number);
            let namespace = lab.add(&name)?;
            namespace.sysctl("net.ipv4.ip_forward", "1")?;
            for scope in ["all", "default"] {
                namespace.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
            }
            plug_in(
                &lab,
                ("front", &format!("f{number}")),
                (&name, "f0"),
                FRONT.v4(number),
            )?;
            plug_in(
                &lab,
                ("back", &format!("b{number}")),
                (&name, "b0"),
                BACK.v4(number),
            )?;
        }
        lab.add("client")?;
        plug_in(&lab, ("front", "c"), ("client", "c0"), FRONT.v4(CLIENT))?;
        lab.namespace("client")?
            .ip(&format!("route add {VIP4} dev c0"))?;
        for number in 1..=servers {
            let name = format!("web{number}");
            lab.add(&name)?;
            let (port, end) = (format!("w{number}"), format!("e{number}"));
            let address = BACK.v4(FIRST_SERVER + number - 1);
            plug_in(&lab, ("back", &port), (&name, &end), address)?;
            lab.namespace(&name)?
                .ip(&format!("route add default via {}", BACK.v4(GATEWAY)))?;
        }
        Ok(Self { lab, servers })
    }

    /// Gives every port of the switch towards a balancer a program that passes everything, so that
    /// what comes by a native redirect arrives.
    ///
    /// # Errors
    /// When the program cannot be loaded or attached.
    pub fn receive_native(&self) -> Result<()> {
        ["f1", "f2", "b1", "b2"]
            .iter()
            .try_for_each(|port| self.lab.attach_pass("switch", port))
    }

    /// The address of a balancer on the back net, by which the two talk to each other.
    #[must_use]
    pub fn balancer_address(number: u8) -> Ipv4Addr {
        BACK.v4(number)
    }

    /// The addresses that the active one has: interface, and address with its prefix length.
    #[must_use]
    pub fn floating() -> [(&'static str, String); 2] {
        [
            ("f0", format!("{VIP4}/32")),
            ("b0", format!("{}/32", BACK.v4(GATEWAY))),
        ]
    }

    /// Gives a balancer the addresses of the active one, and tells everybody.
    ///
    /// # Errors
    /// When `ip` refuses it.
    pub fn activate(&self, number: u8) -> Result<()> {
        let namespace = self.lab.namespace(&balancer(number))?;
        for (interface, address) in Self::floating() {
            namespace.ip(&format!("addr add {address} dev {interface}"))?;
        }
        self.learn_active(number)
    }

    /// What a gratuitous ARP of that balancer does, said by hand: everybody learns its MAC.
    ///
    /// # Errors
    /// When `ip` refuses it.
    pub fn learn_active(&self, number: u8) -> Result<()> {
        let namespace = self.lab.namespace(&balancer(number))?;
        let (front, back) = (namespace.mac("f0")?, namespace.mac("b0")?);
        self.learn("client", ("c0", VIP4), front)?;
        (1..=self.servers).try_for_each(|server| {
            let end = format!("e{server}");
            self.learn(&format!("web{server}"), (&end, BACK.v4(GATEWAY)), back)
        })
    }

    /// Takes these addresses away again.
    ///
    /// # Errors
    /// When `ip` refuses it.
    pub fn deactivate(&self, number: u8) -> Result<()> {
        let namespace = self.lab.namespace(&balancer(number))?;
        Self::floating()
            .iter()
            .try_for_each(|(interface, address)| {
                namespace
                    .ip(&format!("addr del {address} dev {interface}"))
                    .map(drop)
            })
    }

    fn learn(&self, name: &str, (end, address): (&str, Ipv4Addr), mac: [u8; 6]) -> Result<()> {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        self.lab
            .namespace(name)?
            .ip(&format!(
                "neigh replace {address} lladdr {mac} nud reachable dev {end}"
            ))
            .map(drop)
    }

    /// The address of server `number`, counted from 1.
    #[must_use]
    pub fn server_address(number: u8) -> IpAddr {
        BACK.v4(FIRST_SERVER + number - 1).into()
    }

    /// How many servers it has.
    #[must_use]
    pub fn servers(&self) -> u8 {
        self.servers
    }

    /// Starts nginx as server `number` on this port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_nginx(&self, number: u8, port: u16) -> Result<Nginx> {
        let name = format!("web{number}");
        Nginx::start(
            &self.lab,
            NginxConfig {
                namespace: name.clone(),
                name,
                listen: vec![SocketAddr::new(Self::server_address(number), port)],
                more: String::new(),
            },
        )
    }
}

impl Deref for Pair {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

fn balancer(number: u8) -> String {
    format!("lb{number}")
}

/// Joins a namespace to a bridge of the switch and gives its end an address.
fn plug_in(
    lab: &Lab,
    (bridge, port): (&str, &str),
    (name, end): (&str, &str),
    address: Ipv4Addr,
) -> Result<()> {
    lab.join(("switch", port), (name, end))?;
    lab.namespace("switch")?
        .ip(&format!("link set dev {port} master {bridge}"))?;
    lab.namespace(name)?
        .ip(&format!("addr add {address}/24 dev {end}"))?;
    lab.prepare_end(name, end)
}
