//! `[firewall]` as it is written.

use std::path::PathBuf;

use super::{
    firewall_rate::Rate,
    words::{HOST_DEFAULT, HOST_PORTS, PREFIX_FILES, PREFIXES},
};
use crate::config::{
    model::{Prefix, firewall::HostPort},
    rules::Switch,
    schema::{Located, optional, table},
};

table! {
    /// Whose packets are dropped before anything else, by their source address: those for services,
    /// established ones too, and those for this host. Of several prefixes that hold an address the
    /// longest decides, and of two that are the same `allow` does. Backends, the servers of `[mysql]` and the peers of `[cluster]` are always allowed.
    struct Firewall = "[firewall]"
    keys {
        /// Sources whose packets are dropped.
        deny: Vec<Located<Prefix>> = optional(PREFIXES, Vec::new()),
        /// Files with more of them, one prefix or address on each line. What follows `#` or `;` is a
        /// comment. They are read with the config, and again at each reload.
        deny_files: Vec<Located<PathBuf>> = optional(PREFIX_FILES, Vec::new()),
        /// Sources that shorter prefixes of `deny` do not apply to.
        allow: Vec<Located<Prefix>> = optional(PREFIXES, Vec::new()),
        /// Files with more of them, as `deny_files`.
        allow_files: Vec<Located<PathBuf>> = optional(PREFIX_FILES, Vec::new()),
        /// With `"deny"` this host itself is locked down: of what is not for a service only this passes:
        /// `host_ports`, all from sources that `allow` names, from backends, from servers of `[mysql]`
        /// and from the peers of `[cluster]`, TCP of connections that this host has begun or accepted,
        /// UDP to the ports that the kernel gives to clients, DHCP, VRRP, neighbours, and the ICMP that
        /// IP needs.
        default: bool = optional(HOST_DEFAULT, false),
        /// Ports of this host that anybody may begin to talk to, where `default = "deny"`. The ports
        /// of `[mysql] listen` are among them.
        host_ports: Vec<Located<HostPort>> = optional(HOST_PORTS, Vec::new()),
        /// Only counts what would be dropped, as the event `firewall_would_drop`.
        dry_run: bool = optional(Switch, false),
    }
    tables { rate: Rate, }
}
