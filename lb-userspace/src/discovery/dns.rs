//! Backends from DNS: the addresses of a name, or the servers of an SRV record (RFC 2782).

mod message;
mod transport;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc::Sender, time::sleep};

use self::{
    message::{Answer, Kind, Server},
    transport::{ask, servers},
};
use super::{Found, News, RETRY, Remarks, about, tell};
use crate::config::model::{DnsQuery, DnsRecord};

/// What is asked for again after this time even if its TTL is longer, and not before that time even
/// if it is shorter.
const MOST: Duration = Duration::from_secs(300);
const LEAST: Duration = Duration::from_secs(1);
/// From then on nothing more is asked in one look: each failure may take seconds.
const MOST_FAILURES: usize = 8;
/// Highest weight that a record's is scaled to.
const HIGHEST_WEIGHT: u32 = 256;

/// Asks over and over, as often as the records' TTL says.
pub(super) async fn watch(
    service: &Arc<str>,
    query: &DnsQuery,
    families: (bool, bool),
    most: u32,
    known: &[Found],
    news: &Sender<News>,
) {
    let mut retry = RETRY.0;
    let mut remarks = Remarks::default();
    let mut memory = Memory::of(query, known);
    loop {
        let mut look = Look::new(query, families, most as usize, &mut memory);
        let (found, pause) = match look.up().await {
            Ok(found) if look.failed.is_none() => {
                retry = RETRY.0;
                (Ok(found), pause(look.ttl))
            }
            other => {
                let pause = about(retry);
                retry = (retry * 2).min(RETRY.1);
                (other, pause)
            }
        };
        if found.is_ok() {
            let said = look.remarks.into_iter().chain(look.failed);
            remarks.tell(service, said.collect());
        }
        if !tell(news, service, found).await {
            return;
        }
        sleep(pause).await;
    }
}

/// How long an answer is true.
fn pause(ttl: Duration) -> Duration {
    ttl.clamp(LEAST, MOST)
}

/// What was answered before.
#[derive(Debug, Default)]
struct Memory {
    /// The addresses of names, each family by itself.
    addresses: HashMap<(String, Kind), Vec<IpAddr>>,
    /// The backends that are used.
    used: HashSet<String>,
}

impl Memory {
    /// With what was known when another agent ended.
    fn of(query: &DnsQuery, known: &[Found]) -> Self {
        let mut memory = Self {
            used: known.iter().map(|one| one.name.clone()).collect(),
            ..Self::default()
        };
        if query.record == DnsRecord::Address {
            for one in known {
                let kind = if one.address.is_ipv4() {
                    Kind::A
                } else {
                    Kind::Aaaa
                };
                let key = (query.name.clone(), kind);
                memory.addresses.entry(key).or_default().push(one.address);
            }
        }
        memory
    }
}

/// One look at everything.
struct Look<'a> {
    query: &'a DnsQuery,
    families: (bool, bool),
    most: usize,
    memory: &'a mut Memory,
    /// The shortest of all answers.
    ttl: Duration,
    /// The names and families that answered; the others are forgotten.
    answered: HashMap<(String, Kind), Vec<IpAddr>>,
    /// Why a part of it is what was known before, or missing.
    failed: Option<String>,
    failures: usize,
    remarks: Vec<String>,
}

impl<'a> Look<'a> {
    fn new(
        query: &'a DnsQuery,
        families: (bool, bool),
        most: usize,
        memory: &'a mut Memory,
    ) -> Self {
        Self {
            query,
            families,
            most,
            memory,
            ttl: MOST,
            answered: HashMap::new(),
            failed: None,
            failures: 0,
            remarks: Vec::new(),
        }
    }

    /// The backends. No backend at all is no answer.
    async fn up(&mut self) -> Result<Vec<Found>, String> {
        let query = self.query;
        let resolvers = servers(query.server)?;
        let found = match query.record {
            DnsRecord::Address => {
                let addresses = self.addresses(&resolvers, &query.name).await?;
                let found = addresses.into_iter().map(|address| Found {
                    name: address.to_string(),
                    address,
                    port: query.port,
                    weight: None,
                    is_backup: false,
                });
                found.collect()
            }
            DnsRecord::Srv => self.of_servers(&resolvers).await?,
        };
        if found.is_empty() {
            return Err(match self.failed.take() {
                Some(sentence) => sentence,
                None => format!("{} has no addresses", query.name),
            });
        }
        let found = self.some_of(found);
        self.memory.used = found.iter().map(|one| one.name.clone()).collect();
        self.memory.addresses = std::mem::take(&mut self.answered);
        Ok(found)
    }

    /// The addresses of a name. A family that is not answered for stays as it was.
    async fn addresses(
        &mut self,
        resolvers: &[SocketAddr],
        name: &str,
    ) -> Result<BTreeSet<IpAddr>, String> {
        let mut all = BTreeSet::new();
        let (v4, v6) = self.families;
        let mut is_answered = false;
        let mut failed = None;
        let kinds = [(v4, Kind::A), (v6, Kind::Aaaa)];
        for (_, kind) in kinds.into_iter().filter(|(wanted, _)| *wanted) {
            let key = (name.to_owned(), kind);
            let answer = if self.failures < MOST_FAILURES {
                ask(resolvers, name, kind).await
            } else {
                Err(format!(
                    "{name} was not asked for, because too much went wrong"
                ))
            };
            match answer {
                Ok(Answer { addresses, ttl, .. }) => {
                    is_answered = true;
                    all.extend(addresses.iter().copied());
                    self.ttl = self.ttl.min(ttl);
                    self.answered.insert(key, addresses);
                }
                Err(sentence) => {
                    self.failures += 1;
                    failed = Some(sentence);
                    if let Some(known) = self.memory.addresses.get(&key) {
                        all.extend(known.iter().copied());
                        self.answered.insert(key, known.clone());
                    }
                }
            }
        }
        match failed {
            Some(sentence) if all.is_empty() || !is_answered => Err(sentence),
            Some(sentence) => {
                self.failed = Some(format!("not all is known of {name}: {sentence}"));
                Ok(all)
            }
            None => Ok(all),
        }
    }

    /// Servers of the best priority are active, those of all others are backups.
    async fn of_servers(&mut self, resolvers: &[SocketAddr]) -> Result<Vec<Found>, String> {
        let name = &self.query.name;
        let Answer {
            mut servers, ttl, ..
        } = ask(resolvers, name, Kind::Srv).await?;
        self.ttl = self.ttl.min(ttl);
        self.bound(&mut servers);
        let best = servers.iter().map(|server| server.priority).min();
        let heaviest = servers.iter().map(|server| server.weight).max();
        let mut found: Vec<Found> = Vec::new();
        for server in &servers {
            let addresses = match self.addresses(resolvers, &server.target).await {
                Ok(addresses) => addresses,
                Err(sentence) => {
                    self.failed = Some(format!("not all is known of {name}: {sentence}"));
                    self.known(&server.target)
                }
            };
            found.extend(addresses.into_iter().map(|address| Found {
                name: SocketAddr::new(address, server.port).to_string(),
                address,
                port: Some(server.port),
                weight: Some(weight(server, heaviest.unwrap_or_default())),
                is_backup: Some(server.priority) != best,
            }));
        }
        found.sort();
        found.dedup_by(|one, other| one.name == other.name);
        Ok(found)
    }

    /// What was known of a name that is not answered for at all.
    fn known(&self, name: &str) -> BTreeSet<IpAddr> {
        let known = [Kind::A, Kind::Aaaa].map(|kind| {
            let known = self.memory.addresses.get(&(name.to_owned(), kind));
            known.map_or_else(Vec::new, Clone::clone)
        });
        known.concat().into_iter().collect()
    }

    /// Of more servers than may be, the best, and of those the known ones before others.
    fn bound(&mut self, servers: &mut Vec<Server>) {
        if servers.len() <= self.most {
            return;
        }
        let is_new = |target: &str| self.known(target).is_empty();
        servers.sort_by_cached_key(|server| {
            let Server {
                priority,
                port,
                target,
                ..
            } = server;
            (*priority, is_new(target), target.clone(), *port)
        });
        servers.truncate(self.most);
        self.too_many();
    }

    /// Of more backends than may be, those that are used stay, and the first of the others fill up.
    fn some_of(&mut self, mut found: Vec<Found>) -> Vec<Found> {
        if found.len() > self.most {
            let used = &self.memory.used;
            found.sort_by_cached_key(|one| {
                let Found {
                    name,
                    address,
                    is_backup,
                    ..
                } = one;
                (*is_backup, !used.contains(name), *address, name.clone())
            });
            found.truncate(self.most);
            self.too_many();
        }
        found.sort();
        found
    }

    /// Without their number, which may be another each time.
    fn too_many(&mut self) {
        let remark = format!(
            "{} has more backends than service.discovery.most, {}: that many of them are used",
            self.query.name, self.most
        );
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }
}

/// A weight of 0 means "hardly ever"; where all have it, all are alike (RFC 2782).
fn weight(server: &Server, heaviest: u16) -> u16 {
    let scaled = if u32::from(heaviest) > HIGHEST_WEIGHT {
        u32::from(server.weight) * HIGHEST_WEIGHT / u32::from(heaviest)
    } else {
        server.weight.into()
    };
    (scaled as u16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_asked_for_again_neither_at_once_nor_never() {
        let [second, long] = [1, 300].map(Duration::from_secs);
        for (ttl, expected) in [(0, 1), (1, 1), (20, 20), (300, 300), (u64::MAX >> 1, 300)] {
            let found = pause(Duration::from_secs(ttl));
            assert_eq!(found, Duration::from_secs(expected));
            assert!(found >= second && found <= long);
        }
    }

    fn found(last: u8, is_backup: bool) -> Found {
        let address = IpAddr::from([10, 0, 0, last]);
        Found {
            name: address.to_string(),
            address,
            port: None,
            weight: None,
            is_backup,
        }
    }

    fn last_octets(found: &[Found]) -> Vec<u8> {
        let octet = |one: &Found| match one.address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let mut octets: Vec<u8> = found.iter().map(octet).collect();
        octets.sort_unstable();
        octets
    }

    const QUERY: &str = "web.example.org";

    fn query(record: DnsRecord) -> DnsQuery {
        DnsQuery {
            name: QUERY.to_owned(),
            record,
            port: None,
            server: None,
        }
    }

    #[test]
    fn of_too_many_those_that_are_used_stay() {
        let query = query(DnsRecord::Address);
        let used = [found(7, false), found(9, false), found(3, true)];
        let mut memory = Memory::of(&query, &used);
        let mut some_of = |all: Vec<Found>| {
            let mut look = Look::new(&query, (true, false), 3, &mut memory);
            let some = look.some_of(all);
            (last_octets(&some), look.remarks.len())
        };
        let all = |lasts: &[u8]| lasts.iter().map(|last| found(*last, false)).collect();
        assert_eq!(some_of(all(&[1, 2, 3])), (vec![1, 2, 3], 0));
        assert_eq!(some_of(all(&[10, 1, 2, 9, 7])), (vec![1, 7, 9], 1));
        assert_eq!(some_of(all(&[20, 10, 9, 11])), (vec![9, 10, 11], 1));
        // An active one is better than a backup, used or not.
        let mixed = vec![
            found(3, true),
            found(4, false),
            found(5, false),
            found(6, false),
        ];
        assert_eq!(some_of(mixed), (vec![4, 5, 6], 1));
    }

    #[test]
    fn of_too_many_servers_the_best_and_the_known_are_asked_for() {
        let query = query(DnsRecord::Srv);
        let mut memory = Memory::default();
        let known = vec![IpAddr::from([10, 0, 0, 1])];
        memory
            .addresses
            .insert(("z.org".to_owned(), Kind::A), known);
        let mut look = Look::new(&query, (true, false), 2, &mut memory);
        let server = |priority, target: &str| Server {
            priority,
            weight: 1,
            port: 80,
            target: target.to_owned(),
        };
        let mut servers = vec![server(2, "a.org"), server(1, "b.org"), server(1, "c.org")];
        servers.push(server(1, "z.org"));
        look.bound(&mut servers);
        let targets: Vec<&str> = servers.iter().map(|server| &*server.target).collect();
        assert_eq!(targets, ["z.org", "b.org"]);
        assert_eq!(look.remarks.len(), 1);
    }

    #[test]
    fn weights_fit_and_none_is_nothing() {
        let server = |weight| Server {
            priority: 1,
            weight,
            port: 80,
            target: String::new(),
        };
        for (own, heaviest, expected) in [
            (0, 0, 1),
            (0, 10, 1),
            (10, 10, 10),
            (65_535, 65_535, 256),
            (1, 65_535, 1),
            (32_768, 65_535, 128),
        ] {
            assert_eq!(weight(&server(own), heaviest), expected);
        }
    }
}
