//! Who may come in by TCP, and how often: nobody can keep the others out.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Connections of one address at a time.
const MOST_CONNECTIONS: u32 = 8;
/// Connections of one address in a row.
const BURST: f64 = 60.0;
/// Connections of one address per second, in the long run.
const RATE: f64 = 20.0;
/// Addresses that are remembered. More than can be connected, and each is forgotten when it has
/// been silent for as long as a burst takes to come back.
const MOST_ADDRESSES: usize = 4096;

/// The addresses that came lately.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<HashMap<IpAddr, Guest>>);

#[derive(Debug)]
struct Guest {
    connections: u32,
    /// What is left of the burst at `at`.
    left: f64,
    at: Instant,
}

impl Guest {
    fn left(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at);
        (self.left + RATE * since.as_secs_f64()).min(BURST)
    }
}

/// Why somebody is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// So many connections are open.
    TooMany,
    /// Come back after that time.
    TooFast(Duration),
    /// There are too many from everywhere.
    Full,
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Visit {
    guests: Arc<Guests>,
    address: IpAddr,
    is_only: bool,
}

impl Visit {
    /// Whether the address had no other connection when this one came.
    pub(super) const fn is_only(&self) -> bool {
        self.is_only
    }
}

impl Guests {
    /// Lets a connection in, or not.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr, now: Instant) -> Result<Visit, Refused> {
        let address = household(from);
        let mut guests = self.lock();
        if guests.len() >= MOST_ADDRESSES && !guests.contains_key(&address) {
            guests.retain(|_, guest| guest.connections > 0 || guest.left(now) < BURST);
            if guests.len() >= MOST_ADDRESSES {
                return Err(Refused::TooMany);
            }
        }
        let guest = guests.entry(address).or_insert(Guest {
            connections: 0,
            left: BURST,
            at: now,
        });
        if guest.connections >= MOST_CONNECTIONS {
            return Err(Refused::TooMany);
        }
        (guest.left, guest.at) = (guest.left(now), now);
        if guest.left < 1.0 {
            let wait = (1.0 - guest.left) / RATE;
            return Err(Refused::TooFast(Duration::from_secs_f64(wait)));
        }
        guest.left -= 1.0;
        guest.connections += 1;
        let is_only = guest.connections == 1;
        drop(guests);
        Ok(Visit {
            guests: Arc::clone(self),
            address,
            is_only,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Guest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(guest) = self.guests.lock().get_mut(&self.address) {
            guest.connections -= 1;
        }
    }
}

/// All addresses that one host can take at will: with IPv6, its /64.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_so_many_connections_and_others_theirs() {
        let guests = Arc::new(Guests::default());
        let now = Instant::now();
        let one = address("192.0.2.1");
        let visits: Vec<Visit> = (0..MOST_CONNECTIONS)
            .map(|_| guests.enter(one, now).unwrap())
            .collect();
        assert_eq!(guests.enter(one, now).unwrap_err(), Refused::TooMany);
        let mapped = address("::ffff:192.0.2.1");
        assert_eq!(guests.enter(mapped, now).unwrap_err(), Refused::TooMany);
        assert!(guests.enter(address("192.0.2.2"), now).is_ok());
        drop(visits);
        assert!(guests.enter(one, now).is_ok());
    }

    #[test]
    fn a_network_of_one_host_is_one_guest() {
        let guests = Arc::new(Guests::default());
        let now = Instant::now();
        let _visits: Vec<Visit> = (0..MOST_CONNECTIONS)
            .map(|n| {
                guests
                    .enter(address(&format!("2001:db8::{n}")), now)
                    .unwrap()
            })
            .collect();
        assert!(guests.enter(address("2001:db8::ffff"), now).is_err());
        assert!(guests.enter(address("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn a_burst_is_allowed_and_comes_back_with_time() {
        let guests = Arc::new(Guests::default());
        let now = Instant::now();
        let one = address("192.0.2.1");
        let mut taken = 0;
        let refused = loop {
            match guests.enter(one, now) {
                Ok(visit) => drop(visit),
                Err(refused) => break refused,
            }
            taken += 1;
        };
        assert_eq!(f64::from(taken), BURST);
        assert_eq!(refused, Refused::TooFast(Duration::from_millis(50)));
        let later = now + Duration::from_millis(51);
        assert!(guests.enter(one, later).is_ok());
        assert!(guests.enter(one, later).is_err());
        assert!(guests.enter(address("192.0.2.2"), now).is_ok());
    }

    #[test]
    fn strangers_are_forgotten() {
        let guests = Arc::new(Guests::default());
        let now = Instant::now();
        let all = u32::try_from(MOST_ADDRESSES).unwrap();
        let enter = |number: u32, now| guests.enter(IpAddr::V4(number.into()), now);
        for number in 0..all {
            drop(enter(number, now).unwrap());
        }
        assert!(enter(all, now).is_err(), "none has been silent for long");
        assert!(enter(all, now + Duration::from_secs(4)).is_ok());
        assert_eq!(guests.lock().len(), 1);
    }
}
