//! The answer to `lb flows`: goes through the tables a piece at a time, so that a million flows
//! take no memory and no lock.

use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use lb_common::{
    abi::{EndpointKey, Protocol, Ticks, network_port},
    flow::FlowView,
    tables::FlowTable,
};

use super::core::Core;
use crate::{
    admin::Pieces,
    dataplane::FlowTables,
    flow_list::{ClientFilter, Query, State, document},
};

/// Bytes after which a piece ends.
const PIECE: usize = 128 << 10;
/// Buckets after which it ends if little in them is asked for: some milliseconds of work.
const BUCKETS: usize = 1 << 14;
/// The tables, in the order in which they are listed.
const TABLES: [FlowTable; 2] = [FlowTable::Established, FlowTable::HalfOpen];

/// A listing that has begun.
pub(super) struct Lister {
    tables: FlowTables,
    names: Names,
    filter: Filter,
    /// Index in [`TABLES`], and the next bucket of that table.
    position: (usize, usize),
    writer: document::Writer,
    counts_only: bool,
    /// Flows that may still be listed.
    left: u64,
    total: u64,
}

impl Lister {
    /// With the names and ids of this moment.
    ///
    /// # Errors
    /// With a sentence, when something is asked for that does not exist.
    pub(super) fn new(core: &Core, query: &Query) -> Result<Self, String> {
        Ok(Self {
            tables: core.flows.tables().clone(),
            filter: Filter::new(core, query)?,
            names: Names::new(core),
            position: (0, 0),
            writer: document::Writer::default(),
            counts_only: query.count,
            left: query.limit.unwrap_or(u64::MAX),
            total: 0,
        })
    }

    fn take(&mut self, table: FlowTable, now: Ticks, view: &FlowView, out: &mut Vec<u8>) {
        if view.is_expired(now) || !self.filter.matches(table, view) {
            return;
        }
        self.total += 1;
        if self.counts_only || self.left == 0 {
            return;
        }
        self.left -= 1;
        self.writer.next_flow(out);
        self.names.write(table, now, view, out);
    }
}

impl Pieces for Lister {
    fn next(&mut self, out: &mut Vec<u8>) -> bool {
        let now = FlowTables::now();
        if self.position == (0, 0) && !self.counts_only {
            self.writer.begin(out);
        }
        let tables = self.tables.clone();
        let mut buckets = 0;
        while buckets < BUCKETS && out.len() < PIECE {
            let (number, bucket) = self.position;
            let Some(&table) = TABLES.get(number) else {
                if self.counts_only {
                    document::Writer::total(out, self.total);
                } else {
                    self.writer.end(out, self.total);
                }
                return false;
            };
            let window = match tables.window(table, bucket..bucket + FlowTables::WINDOW) {
                Ok(window) if window.is_empty() => {
                    self.position = (number + 1, 0);
                    continue;
                }
                Ok(window) => window,
                Err(error) => {
                    // The document stays unfinished, which its reader sees.
                    tracing::warn!("the list of flows ends: {error}");
                    return false;
                }
            };
            let first = bucket;
            for (bucket, found) in (first..).zip(window.iter()) {
                if buckets == BUCKETS || out.len() >= PIECE {
                    break;
                }
                for view in found.views() {
                    self.take(table, now, &view, out);
                }
                buckets += 1;
                self.position = (number, bucket + 1);
            }
        }
        true
    }
}

/// Which flows are asked for.
struct Filter {
    service: Option<EndpointKey>,
    /// Ids of the backends, each with its service: an id may have been given to another backend.
    backends: Option<HashSet<(u32, EndpointKey)>>,
    client: Option<ClientFilter>,
    state: Option<State>,
}

impl Filter {
    fn new(core: &Core, query: &Query) -> Result<Self, String> {
        let service_key = |name: &str| {
            let mut services = core.model.services.iter().zip(&core.services);
            let found = services.find(|(service, _)| service.name == name);
            found.map(|(_, state)| state.key).ok_or_else(|| {
                let names = core.model.services.iter().map(|service| &*service.name);
                format!(
                    "there is no service {name} (there are: {})",
                    some_of(&names.collect::<Vec<_>>())
                )
            })
        };
        let service = query.service.as_deref().map(service_key).transpose()?;
        let backends = match query.backend.as_deref() {
            None => None,
            Some(asked) => {
                let (of, name) = match asked.split_once('/') {
                    Some((service, name)) => (Some(service_key(service)?), name),
                    None => (service, asked),
                };
                Some(ids(core, of, name).ok_or_else(|| {
                    let names = backends(core)
                        .filter(|(key, ..)| of.is_none_or(|of| of == *key))
                        .map(|(_, _, backend)| &*backend.name);
                    format!(
                        "there is no backend {asked} (there are: {})",
                        some_of(&names.collect::<Vec<_>>())
                    )
                })?)
            }
        };
        Ok(Self {
            service,
            backends,
            client: query.client,
            state: query.state,
        })
    }

    fn matches(&self, table: FlowTable, view: &FlowView) -> bool {
        let Self {
            service,
            backends,
            client,
            state,
        } = self;
        let key = || service_of(view);
        client.is_none_or(|client| client.matches(view.flow.key.client, view.flow.key.client_port))
            && state.is_none_or(|state| state == state_of(table, view))
            && service.is_none_or(|service| service == key())
            && backends
                .as_ref()
                .is_none_or(|ids| ids.contains(&(view.flow.backend, key())))
    }
}

/// Names of services or backends for a sentence, of which there may be thousands.
pub(super) fn some_of(names: &[&str]) -> String {
    const MOST: usize = 20;
    let mut shown: Vec<&str> = names.iter().copied().take(MOST).collect();
    if names.len() > MOST {
        shown.push("…");
    }
    shown.join(", ")
}

/// Every backend of the config, with its service's key and its id, if it has one already.
pub(super) fn backends(
    core: &Core,
) -> impl Iterator<Item = (EndpointKey, Option<u32>, &crate::config::model::Backend)> {
    let services = core.model.services.iter().zip(&core.services);
    services.flat_map(move |(service, state)| {
        let backends = service.backends.iter();
        backends.map(move |backend| (state.key, core.backend_id(&state.key, backend), backend))
    })
}

/// The ids of the backends of that name, in one service or all; `None` if there is no such backend.
fn ids(core: &Core, of: Option<EndpointKey>, name: &str) -> Option<HashSet<(u32, EndpointKey)>> {
    let mut named = backends(core)
        .filter(|(key, _, backend)| backend.name == name && of.is_none_or(|of| of == *key))
        .peekable();
    named.peek()?;
    Some(named.filter_map(|(key, id, _)| Some((id?, key))).collect())
}

fn service_of(view: &FlowView) -> EndpointKey {
    let key = &view.flow.key;
    EndpointKey::new(key.service, key.service_port, key.protocol)
}

fn state_of(table: FlowTable, view: &FlowView) -> State {
    match table {
        _ if view.is_closed => State::Closed,
        FlowTable::Established => State::Established,
        FlowTable::HalfOpen => State::HalfOpen,
    }
}

/// What the numbers in a flow are called.
struct Names {
    services: HashMap<EndpointKey, String>,
    /// By backend id.
    backends: HashMap<u32, Named>,
}

/// A backend, as flows name it.
struct Named {
    service: EndpointKey,
    /// The JSON of service and backend, which most of a listing consists of.
    json: Vec<u8>,
}

impl Names {
    fn new(core: &Core) -> Self {
        let services: HashMap<EndpointKey, String> = core
            .model
            .services
            .iter()
            .zip(&core.services)
            .map(|(service, state)| (state.key, service.name.clone()))
            .collect();
        let mut names = HashMap::new();
        for (id, value) in core.lingering() {
            let key = EndpointKey::new(value.service_address, value.service_port, value.protocol);
            let address = endpoint(value.address.into(), value.port);
            let service = services.get(&key);
            let json = json(&key, service, None, Some(&address));
            names.insert(id, Named { service: key, json });
        }
        for (key, id, backend) in backends(core) {
            let Some(id) = id else { continue };
            let address = endpoint(backend.address, network_port(backend.port));
            let json = json(
                &key,
                services.get(&key),
                Some(&backend.name),
                Some(&address),
            );
            names.insert(id, Named { service: key, json });
        }
        Self {
            services,
            backends: names,
        }
    }

    /// Writes a flow, as [`crate::flow_list::Flow`] reads it.
    fn write(&self, table: FlowTable, now: Ticks, view: &FlowView, out: &mut Vec<u8>) {
        let key = &view.flow.key;
        let protocol = match Protocol::from_number(key.protocol) {
            Some(Protocol::Tcp) => "tcp",
            Some(Protocol::Udp) | None => "udp",
        };
        let client = SocketAddr::new(key.client.into(), u16::from_be(key.client_port));
        let service = service_of(view);
        // Writing to a vector cannot fail, here and below.
        let _ = write!(out, r#"{{"protocol":"{protocol}","client":"{client}","#);
        match self.backends.get(&view.flow.backend) {
            Some(named) if named.service == service => out.extend_from_slice(&named.json),
            _ => out.extend_from_slice(&json(&service, self.services.get(&service), None, None)),
        }
        let left = u64::from(view.flow.expires.since(now));
        let tenths = (left << Ticks::SHIFT) / 100_000_000;
        let _ = write!(
            out,
            r#","state":"{}","expires_in_seconds":{}.{}}}"#,
            state_of(table, view),
            tenths / 10,
            tenths % 10
        );
    }
}

/// The part of a flow's JSON that says between which service and backend it is.
fn json(
    service: &EndpointKey,
    service_name: Option<&String>,
    backend: Option<&String>,
    backend_address: Option<&String>,
) -> Vec<u8> {
    let text = |text: Option<&String>| serde_json::Value::from(text.cloned());
    let service_address = endpoint(service.address.into(), service.port);
    format!(
        r#""service":{},"service_address":"{service_address}","backend":{},"backend_address":{}"#,
        text(service_name),
        text(backend),
        text(backend_address),
    )
    .into_bytes()
}

/// An address and a port in network order.
fn endpoint(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, u16::from_be(port)).to_string()
}
