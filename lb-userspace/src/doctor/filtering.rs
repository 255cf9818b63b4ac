//! Strict reverse path filtering on the balancer: what comes in by another interface than the way
//! back leaves by is dropped. The kernel counts what it dropped, so that only a filter is told that
//! did.

use std::fs;

use super::{Finding, Severity};

/// What the kernel says of this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Interfaces with a strict filter.
    strict: Vec<String>,
    /// Packets that filters have dropped since the namespace was made.
    dropped: u64,
}

/// Asks it.
pub(super) fn gather() -> Facts {
    let counters = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let read = |scope: &str| -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter")).ok()?;
        text.trim().parse().ok()
    };
    let all = read("all").unwrap_or(0);
    let entries = fs::read_dir("/proc/sys/net/ipv4/conf").into_iter();
    let names = entries
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let is_strict = |name: &String| read(name).unwrap_or(0).max(all) == 1;
    let mut strict: Vec<String> = names
        .filter(|name| !["all", "default", "lo"].contains(&name.as_str()))
        .filter(is_strict)
        .collect();
    strict.sort();
    Facts {
        strict,
        dropped: dropped(&counters),
    }
}

/// `IPReversePathFilter` of `/proc/net/netstat`, which has a line of names before each of numbers.
fn dropped(text: &str) -> u64 {
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines
        .windows(2)
        .flat_map(|pair| pair[0].split_whitespace().zip(pair[1].split_whitespace()));
    let mut found = pairs.filter(|(name, _)| *name == "IPReversePathFilter");
    found
        .find_map(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

/// What is wrong with it.
pub(super) fn judge(facts: &Facts) -> Option<Finding> {
    let first = facts.strict.first().filter(|_| facts.dropped > 0)?;
    let found = format!(
        "strict filters (rp_filter = 1 on {}) have dropped {} packets",
        facts.strict.join(", "),
        facts.dropped
    );
    Some(
        Finding::new(Severity::Warning, "rp_filter", "", found)
            .why(
                "answers to health checks, and packets to a backend on this host, are lost where they \
                 come in by another interface than the way back leaves by",
            )
            .cure(format!(
                "sysctl -w net.ipv4.conf.{first}.rp_filter=2, and so for the others (the greater of \
                 an interface's value and that of \"all\" counts)"
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::checks;

    #[test]
    fn a_strict_filter_is_told_when_it_dropped_something() {
        let rows: [(&[&str], u64, &[&str]); 4] = [
            (&[], 0, &[]),
            (&["eth0"], 0, &[]),
            (&[], 7, &[]),
            (&["eth0", "eth1"], 7, &["rp_filter"]),
        ];
        for (strict, dropped, expected) in rows {
            let facts = Facts {
                strict: strict.iter().map(|name| (*name).to_owned()).collect(),
                dropped,
            };
            let found = Vec::from_iter(judge(&facts));
            assert_eq!(checks(&found), expected, "{facts:?}");
        }
    }

    #[test]
    fn the_counter_is_found_by_its_name() {
        let text = "TcpExt: SyncookiesSent IPReversePathFilter TCPTimeouts\nTcpExt: 1 42 3\n\
                    IpExt: InNoRoutes InOctets\nIpExt: 5 6\n";
        assert_eq!(dropped(text), 42);
        assert_eq!(dropped("IpExt: InNoRoutes\nIpExt: 5\n"), 0);
        assert_eq!(dropped(""), 0);
    }
}
