//! Sources that are denied for a while, see [`lb_common::firewall::offender`].

use aya::maps::{HashMap, MapData};
use lb_common::{
    abi::{Ticks, maps},
    address::Address,
    firewall::{
        Prefix,
        offender::{OFFENDERS, Offender},
    },
};

use super::{
    error::{Error, chain},
    plain::Plain,
    tables::absent_is_fine,
};

/// The table of those that exceeded a limit.
pub struct OffenderTable(HashMap<MapData, Plain<Address>, u64>);

fn failed(action: &'static str) -> impl FnOnce(aya::maps::MapError) -> Error {
    move |error| Error::Table {
        table: maps::OFFENDERS,
        action,
        reason: chain(&error),
    }
}

/// As it is written.
fn prefix(source: Address, offender: Offender) -> Prefix {
    let address: std::net::IpAddr = if source.is_v4() {
        std::net::Ipv4Addr::from(source.v4_octets()).into()
    } else {
        std::net::Ipv6Addr::from(source.octets()).into()
    };
    Prefix::new(address, offender.length())
}

/// Whether one holds some of the other.
fn overlap(one: Prefix, other: Prefix) -> bool {
    one.contains(other.address()) || other.contains(one.address())
}

impl OffenderTable {
    pub(super) fn new(map: HashMap<MapData, Plain<Address>, u64>) -> Self {
        Self(map)
    }

    /// Those that are denied now, of these prefixes or of all.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn of(&self, within: Option<Prefix>, now: Ticks) -> Result<Vec<(Prefix, Offender)>, Error> {
        let mut found = self.entries(within)?;
        found.retain(|(_, offender)| offender.until().since(now) != 0);
        let listed = found.into_iter();
        let listed = listed.map(|(source, offender)| (prefix(source, offender), offender));
        Ok(listed.collect())
    }

    fn entries(&self, within: Option<Prefix>) -> Result<Vec<(Address, Offender)>, Error> {
        let mut found = Vec::new();
        // A table that changed under the walk could lead in a circle.
        for entry in self.0.iter().take(2 * OFFENDERS as usize) {
            let (source, offender) = entry.map_err(failed("read"))?;
            let (source, offender) = (source.0, Offender(offender));
            if within.is_none_or(|within| overlap(within, prefix(source, offender))) {
                found.push((source, offender));
            }
        }
        Ok(found)
    }

    /// Denies them no more.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn lift(&mut self, within: Option<Prefix>) -> Result<(), Error> {
        for (source, _) in self.entries(within)? {
            absent_is_fine(self.0.remove(&Plain(source))).map_err(failed("write"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lb_common::firewall::rate::Kind;

    use super::*;

    #[test]
    fn who_shares_an_address_overlaps() {
        let of = |text: &str, length| Prefix::new(text.parse().unwrap(), length);
        let source = Address::from_v4([198, 51, 100, 0]);
        let own = prefix(source, Offender::new(Kind::Packets, 24, Ticks(1)));
        assert_eq!(
            (own.address().to_string(), own.length()),
            ("198.51.100.0".to_owned(), 24)
        );
        assert!(overlap(own, of("198.51.100.7", 32)) && overlap(of("198.51.0.0", 16), own));
        assert!(!overlap(own, of("198.51.101.0", 24)) && !overlap(own, of("::", 0)));
    }
}
