//! What the kernel counts in namespaces.

use std::fs;

use anyhow::{Context, Result};
use lb_lab::Lab;

/// Packets with a wrong TCP, UDP or ICMP checksum that a namespace has received.
///
/// # Errors
/// When the counters cannot be read.
pub fn checksum_errors(lab: &Lab, namespace: &str) -> Result<u64> {
    let own = lab.namespace(namespace)?;
    let mut sum = 0;
    for protocol in ["Tcp", "Udp", "Icmp"] {
        sum += own.counter(protocol, "InCsumErrors")?;
    }
    // TCP counts for both families above.
    let text = own.within(|| fs::read_to_string("/proc/thread-self/net/snmp6"))??;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let Some("Udp6InCsumErrors" | "Icmp6InCsumErrors") = words.next() {
            sum += words
                .next()
                .context("a counter without a value")?
                .parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// Packets that a namespace has sent by an interface.
///
/// # Errors
/// When there is no such interface.
pub fn sent_packets(lab: &Lab, namespace: &str, interface: &str) -> Result<u64> {
    const SENT_PACKETS: usize = 9;
    let text = lab.within(namespace, || {
        fs::read_to_string("/proc/thread-self/net/dev")
    })??;
    text.lines()
        .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))
        .and_then(|counters| counters.split_whitespace().nth(SENT_PACKETS)?.parse().ok())
        .with_context(|| format!("no counters of {interface}"))
}

/// Whether an interface has an XDP program.
///
/// # Errors
/// When there is no such interface.
pub fn has_xdp(lab: &Lab, namespace: &str, interface: &str) -> Result<bool> {
    let text = lab
        .namespace(namespace)?
        .ip(&format!("link show dev {interface}"))?;
    Ok(text.contains("xdp"))
}
