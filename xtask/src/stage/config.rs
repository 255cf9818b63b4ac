//! The configuration of the lab's lb.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use lb_lab::{Routed, VIP4, VIP6};

/// How many web servers there are.
pub(crate) const SERVERS: u8 = 3;

/// The service that the demonstration uses.
pub(crate) const SERVICE: &str = "web";

pub(super) const VIP: Ipv4Addr = VIP4;

const PORT: u16 = 80;
pub(super) const BACKEND_PORT: u16 = 8080;

/// Where the client finds the service.
pub(crate) fn vip() -> SocketAddr {
    SocketAddr::new(VIP.into(), PORT)
}

/// The file's text.
pub(super) fn text(lab: &Routed, socket: &Path) -> String {
    let mut text = format!(
        r#"[agent]
interfaces = {interfaces:?}
xdp_mode = "auto"
pin_path = "{pins}"
state_file = "{state}"

[admin]
socket = "{socket}"
"#,
        interfaces = lab.balancer_interfaces(),
        pins = lab.pins().join("lb").display(),
        state = lab.folder().join("state.json").display(),
        socket = socket.display(),
    );
    // One service per address family, with the same servers behind them.
    let services = [(SERVICE, VIP4.to_string()), ("web6", VIP6.to_string())];
    for (family, (name, address)) in services.iter().enumerate() {
        text.push_str(&service(name, address));
        for number in 1..=SERVERS {
            if let Some(address) = Routed::server_addresses(number).get(family) {
                // Writing to a String cannot fail.
                let _ = write!(
                    text,
                    "\n[[service.backend]]\nname = \"web{number}\"\naddress = \"{address}\"\nport = {BACKEND_PORT}\n"
                );
            }
        }
    }
    text
}

fn service(name: &str, address: &str) -> String {
    format!(
        r#"
[[service]]
name = "{name}"
address = "{address}"
port = {PORT}
protocol = "tcp"
scheduler = "round-robin"
forwarding = "nat"

[service.health_check]
kind = "http"
path = "/healthz"
interval_seconds = 0.2
timeout_seconds = 1.0
rise = 2
fall = 2
"#
    )
}
