//! The lab of a router with several balancers behind it.
//!
//! ```text
//! client c0 ── rc router rf ─┐         ┌─ f0 lb1 b0 ─┐         ┌─ e1 web1
//!                            ├─ front ─┼─ f0 lb2 b0 ─┼─ back ──┼─ e2 web2
//!                     rb ────│─────────│─────────────┘         └─ …
//! ```
//! `front` and `back` are bridges in the namespace `switch`. The client net is 10.50.0.0/24, the front
//! net 10.51.0.0/24, the back net 10.52.0.0/24, and for IPv6 alike. The router is .1 everywhere, the
//! client .2, balancer N .(10 + N), server N .(20 + N). Servers have the VIPs on `lo`, do not say so,
//! and answer by the router. Nobody tells the router where the VIPs are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;

use anyhow::{Result, ensure};

use crate::address::{Network, VIP4, VIP6};
use crate::lab::Lab;
use crate::nginx::{Nginx, NginxConfig};

const CLIENTS: Network = Network::new(50, 0);
const FRONT: Network = Network::new(51, 0);
const BACK: Network = Network::new(52, 0);
const ROUTER: u8 = 1;
const CLIENT: u8 = 2;

/// A lab of a router and balancers; it is a [`Lab`] whose namespaces are `switch`, `router`, `client`,
/// `lb1`, …, `web1`, ….
#[derive(Debug)]
pub struct Fabric {
    lab: Lab,
    balancers: u8,
    servers: u8,
}

impl Fabric {
    /// A lab of this process with so many balancers and servers.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn new(balancers: u8, servers: u8) -> Result<Self> {
        ensure!(
            (1..=9).contains(&balancers),
            "a fabric has 1 to 9 balancers"
        );
        ensure!((1..=9).contains(&servers), "a fabric has 1 to 9 servers");
        let mut lab = Lab::new()?;
        lab.add("switch")?.ip_batch(
            "link add front up type bridge stp_state 0 mcast_snooping 0\n\
             link add back up type bridge stp_state 0 mcast_snooping 0\n",
        )?;
        let router = lab.add("router")?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        // By ports, too.
        router.sysctl("net.ipv4.fib_multipath_hash_policy", "1")?;
        router.sysctl("net.ipv6.fib_multipath_hash_policy", "1")?;
        no_reverse_filter(router)?;
        plug_in(&lab, ("front", "rf"), ("router", "f0"), FRONT, ROUTER)?;
        plug_in(&lab, ("back", "rb"), ("router", "b0"), BACK, ROUTER)?;
        lab.add("client")?;
        lab.join(("router", "rc"), ("client", "c0"))?;
        address(&lab, ("router", "rc"), CLIENTS, ROUTER)?;
        address(&lab, ("client", "c0"), CLIENTS, CLIENT)?;
        default_route(&lab, "client", CLIENTS)?;
        for number in 1..=balancers {
            let name = format!("lb{number}");
            let namespace = lab.add(&name)?;
            namespace.sysctl("net.ipv4.ip_forward", "1")?;
            no_reverse_filter(namespace)?;
            let (front, back) = (format!("f{number}"), format!("b{number}"));
            let host = 10 + number;
            plug_in(&lab, ("front", &front), (&name, "f0"), FRONT, host)?;
            plug_in(&lab, ("back", &back), (&name, "b0"), BACK, host)?;
        }
        for number in 1..=servers {
            let name = format!("web{number}");
            let namespace = lab.add(&name)?;
            // Before the addresses are there, so that nobody hears an answer for them.
            namespace.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
            namespace.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
            no_reverse_filter(namespace)?;
            namespace.ip_batch(&format!(
                "addr add {VIP4}/32 dev lo\naddr add {VIP6}/128 dev lo nodad\n"
            ))?;
            let (port, end) = (format!("w{number}"), format!("e{number}"));
            plug_in(&lab, ("back", &port), (&name, &end), BACK, 20 + number)?;
            default_route(&lab, &name, BACK)?;
        }
        Ok(Self {
            lab,
            balancers,
            servers,
        })
    }

    /// Gives every port of the switch towards a balancer a program that passes everything, so that
    /// what comes by a native redirect arrives.
    ///
    /// # Errors
    /// When the program cannot be loaded or attached.
    pub fn receive_native(&self) -> Result<()> {
        (1..=self.balancers).try_for_each(|number| {
            self.lab.attach_pass("switch", &format!("f{number}"))?;
            self.lab.attach_pass("switch", &format!("b{number}"))
        })
    }

    /// The router's address on the front net.
    #[must_use]
    pub fn router_address() -> Ipv4Addr {
        FRONT.v4(ROUTER)
    }

    /// The address of a balancer on the front net.
    #[must_use]
    pub fn front_address(number: u8) -> Ipv4Addr {
        FRONT.v4(10 + number)
    }

    /// The address of a balancer on the back net.
    #[must_use]
    pub fn back_address(number: u8) -> Ipv4Addr {
        BACK.v4(10 + number)
    }

    /// The addresses of server `number`, counted from 1.
    #[must_use]
    pub fn server_addresses(number: u8) -> [IpAddr; 2] {
        [BACK.v4(20 + number).into(), BACK.v6(20 + number).into()]
    }

    /// How many servers it has.
    #[must_use]
    pub fn servers(&self) -> u8 {
        self.servers
    }

    /// Starts nginx as server `number` on this port of its own addresses and of the VIPs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_nginx(&self, number: u8, port: u16) -> Result<Nginx> {
        let name = format!("web{number}");
        let [v4, v6] = Self::server_addresses(number);
        let listen = [v4, v6, VIP4.into(), VIP6.into()];
        let listen = listen.map(|address| SocketAddr::new(address, port));
        Nginx::start(
            &self.lab,
            NginxConfig {
                namespace: name.clone(),
                name,
                listen: listen.to_vec(),
                more: String::new(),
            },
        )
    }
}

impl Deref for Fabric {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

fn no_reverse_filter(namespace: &crate::Namespace) -> Result<()> {
    for scope in ["all", "default"] {
        namespace.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
    }
    Ok(())
}

/// Joins a namespace to a bridge of the switch and gives its end addresses.
fn plug_in(
    lab: &Lab,
    (bridge, port): (&str, &str),
    (name, end): (&str, &str),
    net: Network,
    host: u8,
) -> Result<()> {
    lab.join(("switch", port), (name, end))?;
    lab.namespace("switch")?
        .ip(&format!("link set dev {port} master {bridge}"))?;
    address(lab, (name, end), net, host)
}

fn address(lab: &Lab, (name, end): (&str, &str), net: Network, host: u8) -> Result<()> {
    lab.namespace(name)?.ip_batch(&format!(
        "addr add {}/24 dev {end}\naddr add {}/64 dev {end} nodad\n",
        net.v4(host),
        net.v6(host)
    ))?;
    lab.prepare_end(name, end)
}

fn default_route(lab: &Lab, name: &str, net: Network) -> Result<()> {
    lab.namespace(name)?.ip_batch(&format!(
        "route add default via {}\nroute add ::/0 via {}\n",
        net.v4(ROUTER),
        net.v6(ROUTER)
    ))
}
