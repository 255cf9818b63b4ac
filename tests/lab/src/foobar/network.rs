//! The wires: two networks, the public one and that of the servers, with both balancers in both.
//!
//! ```text
//! client .2 ─┐                ┌─ app1 .21
//!            ├ wan ┬ lb1 ┬ lan┼─ app2 .22
//!            │     └ lb2 ┘    └─ monitor .5
//! ```
//! The public network is 203.0.113.0/24 with the VIP .10, the inner one 10.50.0.0/24 with the
//! gateway .1, which is the balancers' other shared address; lb1 is .11 and lb2 .12 in both.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::lab::Lab;

/// What www.foobar.com resolves to.
pub const VIP: Ipv4Addr = crate::address::VIP4;

/// What the servers send by; it moves together with the VIP.
pub(super) const GATEWAY: Ipv4Addr = lan(1);

/// How many balancers there are.
pub(super) const BALANCERS: u8 = 2;

/// How many app hosts there are.
pub(super) const APPS: u8 = 2;

/// The namespaces, that of the switches aside.
pub(super) const NAMESPACES: [&str; 6] = ["client", "lb1", "lb2", "app1", "app2", "monitor"];

/// The namespace with both switches.
const SWITCH: &str = "switch";

const CLIENT: Ipv4Addr = wan(2);
/// Another client's address, of one who is not welcome.
pub(super) const OFFENDER: Ipv4Addr = wan(99);
/// Where Prometheus is.
pub(super) const MONITOR: Ipv4Addr = lan(5);

const fn wan(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, host)
}

const fn lan(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 50, 0, host)
}

/// A balancer's own address in the inner network.
pub(super) const fn balancer(number: u8) -> Ipv4Addr {
    lan(10 + number)
}

/// An app host's address.
pub(super) const fn app(number: u8) -> Ipv4Addr {
    lan(20 + number)
}

/// The switch's ports that a balancer is plugged into.
fn balancer_ports(number: u8) -> [String; 2] {
    [format!("pw{number}"), format!("pl{number}")]
}

/// Pulls the plugs of a host, or puts them in again: all of `lb1`, `lb2`, `app1`, `app2`.
pub(super) fn plug(lab: &Lab, host: &str, in_: bool) -> Result<()> {
    let state = if in_ { "up" } else { "down" };
    let number = host.chars().last().and_then(|digit| digit.to_digit(10));
    let number = u8::try_from(number.unwrap_or(0))?;
    let ports = match host.starts_with("lb") {
        true => balancer_ports(number).to_vec(),
        false => vec![format!("pa{number}")],
    };
    let lines: String = ports
        .iter()
        .map(|port| format!("link set dev {port} {state}\n"))
        .collect();
    lab.namespace(SWITCH)?.ip_batch(&lines)
}

/// Makes the namespaces and joins them.
pub(super) fn wire(lab: &mut Lab) -> Result<()> {
    let switch = lab.add(SWITCH)?;
    for network in ["wan", "lan"] {
        switch.ip(&format!(
            "link add {network} up type bridge stp_state 0 mcast_snooping 0"
        ))?;
    }
    for name in NAMESPACES {
        lab.add(name)?;
    }
    plug_in(lab, ("wan", "pc"), ("client", "eth0"), CLIENT)?;
    lab.namespace("client")?
        .ip(&format!("addr add {OFFENDER}/24 dev eth0"))?;
    plug_in(lab, ("lan", "pm"), ("monitor", "eth0"), MONITOR)?;
    for number in 1..=BALANCERS {
        let name = format!("lb{number}");
        lab.namespace(&name)?.sysctl("net.ipv4.ip_forward", "1")?;
        let [outer, inner] = balancer_ports(number);
        plug_in(lab, ("wan", &outer), (&name, "wan0"), wan(10 + number))?;
        plug_in(lab, ("lan", &inner), (&name, "lan0"), balancer(number))?;
        // In native mode, what a program redirects or sends back arrives only at such an end.
        lab.attach_pass(SWITCH, &outer)?;
        lab.attach_pass(SWITCH, &inner)?;
    }
    for number in 1..=APPS {
        let name = format!("app{number}");
        plug_in(
            lab,
            ("lan", &format!("pa{number}")),
            (&name, "eth0"),
            app(number),
        )?;
        lab.namespace(&name)?
            .ip(&format!("route add default via {GATEWAY}"))?;
    }
    Ok(())
}

/// Joins a namespace to one of the switches and gives its end an address.
fn plug_in(
    lab: &Lab,
    (bridge, port): (&str, &str),
    (name, end): (&str, &str),
    address: Ipv4Addr,
) -> Result<()> {
    lab.join((SWITCH, port), (name, end))?;
    lab.namespace(SWITCH)?
        .ip(&format!("link set dev {port} master {bridge}"))?;
    lab.namespace(name)?
        .ip(&format!("addr add {address}/24 dev {end}"))?;
    lab.prepare_end(name, end)
}
