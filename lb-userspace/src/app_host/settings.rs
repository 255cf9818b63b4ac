//! The sysctls: what they should be, and setting them.
//!
//! Of each there is one for all interfaces and one for every interface, and the larger counts
//! (`IN_DEV_MAXCONF` in the kernel).

use std::{fs, io, path::PathBuf};

use super::error::Error;

/// The scope that counts for every interface.
const ALL: &str = "all";

/// A sysctl below `net.ipv4.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ArpIgnore,
    ArpAnnounce,
    RpFilter,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpAnnounce => "arp_announce",
            Self::RpFilter => "rp_filter",
        }
    }

    /// The value to set instead of those there are; `None` where they do.
    fn wanted(self, all: i64, own: i64) -> Option<i64> {
        match self {
            // 1 answers only for addresses of the interface that was asked. 2 and 8 are stricter;
            // the others answer for `lo`.
            Self::ArpIgnore => (!matches!(own, 1 | 2 | 8)).then_some(1),
            // 2 never names an address of another interface as the sender.
            Self::ArpAnnounce => (own < 2).then_some(2),
            // Clients' packets come by a balancer, and answers may leave by another interface,
            // which strict filtering (1) takes for forged. 0 for the interface would not help
            // against 1 for all; 2 is loose.
            Self::RpFilter => (all.max(own) == 1).then_some(2),
        }
    }
}

/// A sysctl to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Its name, from the interface on: `eth0/rp_filter`.
    pub(super) name: String,
    /// What it is now.
    pub(super) before: i64,
    /// What it should be.
    pub(super) after: i64,
}

/// Interface and word of a sysctl's name.
pub(super) fn interface(name: &str) -> &str {
    name.split_once('/')
        .map_or(name, |(interface, _)| interface)
}

/// What to change for packets to VIPs that come in by these interfaces, by what `read` says. Those
/// of an interface that is not there come with it.
pub(super) fn changes(
    interfaces: &[String],
    read: impl Fn(&str) -> Result<i64, Error>,
) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    let scopes = || std::iter::once(ALL).chain(interfaces.iter().map(String::as_str));
    for scope in scopes() {
        for kind in [Kind::ArpIgnore, Kind::ArpAnnounce, Kind::RpFilter] {
            if kind == Kind::RpFilter && scope == ALL {
                continue;
            }
            let name = format!("{scope}/{}", kind.word());
            let before = match read(&name) {
                Err(error) if scope != ALL && is_absent(&error) => break,
                read => read?,
            };
            let all = read(&format!("{ALL}/{}", kind.word()))?;
            if let Some(after) = kind.wanted(all, before) {
                changes.push(Change {
                    name,
                    before,
                    after,
                });
            }
        }
    }
    Ok(changes)
}

/// What a sysctl is.
pub(super) fn read(name: &str) -> Result<i64, Error> {
    fs::read_to_string(path(name))
        .and_then(|text| text.trim().parse().map_err(io::Error::other))
        .map_err(failed("read", name))
}

/// Sets a sysctl.
pub(super) fn write(name: &str, value: i64) -> Result<(), Error> {
    fs::write(path(name), value.to_string()).map_err(failed("set", name))
}

/// Whether an error says that there is no such sysctl, as when its interface has gone.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Setting { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Whether there is such a sysctl; those of an interface go with it.
pub(super) fn exists(name: &str) -> bool {
    path(name).exists()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv4/conf").join(name)
}

fn failed(action: &'static str, name: &str) -> impl FnOnce(io::Error) -> Error {
    let key = format!("net/ipv4/conf/{name}");
    move |source| Error::Setting {
        action,
        key,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn changed(values: &[(&str, i64)]) -> Vec<(String, i64)> {
        let values: HashMap<&str, i64> = values.iter().copied().collect();
        let read = |name: &str| Ok(values.get(name).copied().unwrap_or(0));
        changes(&["eth0".to_owned()], read)
            .unwrap()
            .into_iter()
            .map(|change| (change.name, change.after))
            .collect()
    }

    fn has(changes: &[(String, i64)], name: &str) -> Option<i64> {
        let found = changes.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| *value)
    }

    #[test]
    fn arp_is_told_for_all_and_for_each() {
        let changes = changed(&[]);
        for scope in ["all", "eth0"] {
            assert_eq!(has(&changes, &format!("{scope}/arp_ignore")), Some(1));
            assert_eq!(has(&changes, &format!("{scope}/arp_announce")), Some(2));
        }
        assert_eq!(changes.len(), 4);
    }

    #[test]
    fn what_is_strict_enough_stays() {
        let changes = changed(&[
            ("all/arp_ignore", 8),
            ("eth0/arp_ignore", 2),
            ("all/arp_announce", 2),
            ("eth0/arp_announce", 2),
        ]);
        assert_eq!(changes, []);
        // 3 answers for addresses of `lo` whose scope is not "host".
        assert_eq!(
            has(&changed(&[("all/arp_ignore", 3)]), "all/arp_ignore"),
            Some(1)
        );
    }

    #[test]
    fn an_interface_that_is_not_there_is_skipped() {
        let read = |name: &str| match interface(name) {
            "eth1" => Err(failed("read", name)(io::ErrorKind::NotFound.into())),
            _ => Ok(0),
        };
        let interfaces = ["eth1", "eth0"].map(str::to_owned);
        let changes = changes(&interfaces, read).unwrap();
        let scopes: Vec<&str> = changes.iter().map(|one| interface(&one.name)).collect();
        assert_eq!(scopes, ["all", "all", "eth0", "eth0"]);
        let denied = |name: &str| {
            let denied = io::ErrorKind::PermissionDenied.into();
            Err::<i64, _>(failed("read", name)(denied))
        };
        assert!(super::changes(&interfaces, denied).is_err());
    }

    #[test]
    fn the_larger_rp_filter_counts() {
        for (all, own, expected) in [
            (0, 0, None),
            (1, 0, Some(2)),
            (0, 1, Some(2)),
            (1, 1, Some(2)),
            (2, 1, None),
            (1, 2, None),
            (0, 2, None),
        ] {
            let changes = changed(&[("all/rp_filter", all), ("eth0/rp_filter", own)]);
            assert_eq!(has(&changes, "eth0/rp_filter"), expected, "{all} {own}");
            assert_eq!(has(&changes, "all/rp_filter"), None);
        }
    }
}
