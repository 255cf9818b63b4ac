//! What the firewall drops, it was told to drop; and what begins a connection to a host that is locked
//! down was let in by name.

use lb_common::{
    firewall::{CONTROL, Control, Key, lock},
    host::HostTables,
    tables::Tables as _,
    verdict::{Disposition, Verdict},
};

use super::demand;

/// Whether a verdict agrees with what the firewall was told.
pub(super) fn agrees(frame: &[u8], verdict: Verdict, tables: &HostTables) -> Result<(), String> {
    let control = Control(tables.firewall_word(CONTROL));
    if verdict == Verdict::DropDenied {
        return demand(
            control.is_on() && !control.is_dry_run(),
            "denied without a firewall",
        );
    }
    if verdict == Verdict::DropServiceDenied {
        let has_lists = tables.services.values().any(|service| service.lists != 0);
        return demand(
            has_lists && !control.is_dry_run(),
            "kept out of services that have no lists",
        );
    }
    let is_locked = control.is_locked() && !control.is_dry_run();
    if verdict == Verdict::DropLockedDown {
        return demand(is_locked, "locked out of a host that is not locked down");
    }
    if !is_locked || verdict.disposition() != Disposition::Pass || verdict == Verdict::SteeredLocal
    {
        return Ok(());
    }
    demand(
        begins_by_name(frame, control, tables).unwrap_or(true),
        "a connection begins to a port that nobody named",
    )
}

/// Whether a SYN in plain IPv4 is for a named port or from a trusted source; nothing of other packets.
fn begins_by_name(frame: &[u8], control: Control, tables: &HostTables) -> Option<bool> {
    const HEAD: [u8; 3] = [0x08, 0x00, 0x45];
    let ip = frame.get(14..34)?;
    let tcp = frame.get(34..54)?;
    let is_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
    let is_syn = tcp[13] & 0x12 == 0x02;
    if frame[12..15] != HEAD || ip[9] != 6 || is_fragment || !is_syn {
        return None;
    }
    let bit = lock::bit_of_port(false, u16::from_be_bytes([tcp[2], tcp[3]]));
    let source = std::net::Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
    let key = Key::of(
        control.generation(),
        lock::TRUSTED,
        std::net::IpAddr::from(source).into(),
    );
    Some(tables.firewall_word(bit.word) & bit.mask != 0 || tables.firewall_entry(&key).is_there())
}
