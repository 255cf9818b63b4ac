//! Backends from DNS: the addresses of a name, or the servers of an SRV record (RFC 2782).

mod message;
mod transport;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc::Sender, time::sleep};

use self::{
    message::{Answer, Kind, Server},
    transport::{ask, servers},
};
use super::{Found, News, RETRY, tell};
use crate::config::model::{DnsQuery, DnsRecord};

/// What is asked for again after this time even if its TTL is longer, and not before that time even
/// if it is shorter.
const MOST: Duration = Duration::from_secs(300);
const LEAST: Duration = Duration::from_secs(1);
/// Highest weight that a record's is scaled to.
const HIGHEST_WEIGHT: u32 = 256;

/// Asks over and over, as often as the records' TTL says.
pub(super) async fn watch(
    service: &Arc<str>,
    query: &DnsQuery,
    families: (bool, bool),
    most: u32,
    news: &Sender<News>,
) {
    let mut retry = RETRY.0;
    loop {
        let pause = match look_up(query, families, most).await {
            Ok((mut found, ttl)) => {
                found.sort();
                if !tell(news, service, Ok(found)).await {
                    return;
                }
                retry = RETRY.0;
                ttl.clamp(LEAST, MOST)
            }
            Err(sentence) => {
                if !tell(news, service, Err(sentence)).await {
                    return;
                }
                let pause = retry;
                retry = (retry * 2).min(RETRY.1);
                pause
            }
        };
        sleep(pause).await;
    }
}

/// Backends, and how long that is true. No backend at all is no answer.
async fn look_up(
    query: &DnsQuery,
    families: (bool, bool),
    most: u32,
) -> Result<(Vec<Found>, Duration), String> {
    let servers = servers(query.server)?;
    let (found, ttl) = match query.record {
        DnsRecord::Address => {
            let (addresses, ttl) = addresses(&servers, &query.name, families, most).await?;
            let found = addresses
                .into_iter()
                .map(|address| Found {
                    name: address.to_string(),
                    address,
                    port: query.port,
                    weight: None,
                    is_backup: false,
                })
                .collect();
            (found, ttl)
        }
        DnsRecord::Srv => of_servers(&servers, query, families, most).await?,
    };
    if found.is_empty() {
        return Err(format!("{} has no addresses", query.name));
    }
    Ok((found, ttl))
}

async fn addresses(
    servers: &[SocketAddr],
    name: &str,
    (v4, v6): (bool, bool),
    most: u32,
) -> Result<(BTreeSet<IpAddr>, Duration), String> {
    let mut all = BTreeSet::new();
    let mut ttl = MOST;
    let mut failed = None;
    let kinds = [(v4, Kind::A), (v6, Kind::Aaaa)];
    for (_, kind) in kinds.into_iter().filter(|(wanted, _)| *wanted) {
        match ask(servers, name, kind).await {
            Ok(Answer {
                addresses,
                ttl: own,
                ..
            }) => {
                all.extend(addresses);
                ttl = ttl.min(own);
            }
            Err(sentence) => failed = Some(sentence),
        }
    }
    if all.len() > most as usize {
        return Err(too_many(name, all.len(), most));
    }
    match failed {
        // One family may be there and the other not.
        Some(sentence) if all.is_empty() => Err(sentence),
        _ => Ok((all, ttl)),
    }
}

/// Servers of the best priority are active, those of all others are backups.
async fn of_servers(
    resolvers: &[SocketAddr],
    query: &DnsQuery,
    families: (bool, bool),
    most: u32,
) -> Result<(Vec<Found>, Duration), String> {
    let Answer {
        servers, mut ttl, ..
    } = ask(resolvers, &query.name, Kind::Srv).await?;
    if servers.len() > most as usize {
        return Err(too_many(&query.name, servers.len(), most));
    }
    let best = servers.iter().map(|server| server.priority).min();
    let heaviest = servers.iter().map(|server| server.weight).max();
    let mut found: Vec<Found> = Vec::new();
    let mut failed = None;
    for server in &servers {
        let (addresses, own) = match addresses(resolvers, &server.target, families, most).await {
            Ok(known) => known,
            Err(sentence) => {
                failed = Some(sentence);
                continue;
            }
        };
        ttl = ttl.min(own);
        for address in addresses {
            found.push(Found {
                name: SocketAddr::new(address, server.port).to_string(),
                address,
                port: Some(server.port),
                weight: Some(weight(server, heaviest.unwrap_or_default())),
                is_backup: Some(server.priority) != best,
            });
        }
        if found.len() > most as usize {
            return Err(too_many(&query.name, found.len(), most));
        }
    }
    // Half of the servers would take all connections.
    if let Some(sentence) = failed {
        return Err(sentence);
    }
    found.sort();
    found.dedup_by(|one, other| one.name == other.name);
    Ok((found, ttl))
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

fn too_many(name: &str, found: usize, most: u32) -> String {
    format!(
        "{name} has {found} backends, and service.discovery.most is {most}: that is taken for a \
         mistake"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
