//! Looks at the servers, all the time, and tells the workers what is so.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::spawn_local,
    time::{interval, timeout},
};

use super::{
    connect::{self, Failure, Greeted, LoggedIn, Who},
    connection::{Answer, Connection},
    follow::follow,
    relay::Broken,
    settings::{ReadScheduler, Reads, Role},
    shared::Shared,
    tracked, untold,
    view::{Face, Seen, View},
};
use crate::{
    gtid::Family,
    monitor::{self, ServerError, Table},
    sql::{Dialect, SqlMode},
    topology::{self, Channels, Level, Observation, Topology, Trouble, Version},
    wire::{
        Capabilities, Reader,
        attributes::Attributes,
        error::Refusal,
        packet::{HEADER, Header},
    },
};

/// What was seen so many intervals ago does not count any more.
const STALE: u32 = 5;
/// From the beginning of one look to the next at least.
const LEAST: Duration = Duration::from_millis(20);
/// `utf8mb4_general_ci`, which every server has.
const COLLATION: u16 = 45;

/// What was seen of a server.
struct Look {
    server: usize,
    /// When it began.
    began: Instant,
    seen: Result<Observation, Trouble>,
    face: Option<Arc<Face>>,
}

/// Watches the servers until it is dropped.
pub(super) async fn watch(shared: Arc<Shared>) {
    let settings = &shared.settings;
    let (sender, mut looks) = mpsc::channel(settings.servers.len().max(1) * 2);
    for server in 0..settings.servers.len() {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        let follows = Arc::clone(&shared);
        spawn_local(async move { look_at(&shared, server, &sender).await });
        spawn_local(async move { follow(&follows, server).await });
    }
    drop(sender);
    let asks = Arc::clone(&shared);
    spawn_local(async move { untold::ask(&asks).await });
    let began = Instant::now();
    let mut topology = Topology::new(topology_settings(&shared), None);
    let mut faces: Vec<Option<Arc<Face>>> = vec![None; settings.servers.len()];
    let mut tick = interval(settings.monitor.interval);
    loop {
        let mut looked = None;
        let events = tokio::select! {
            look = looks.recv() => {
                let Some(look) = look else { return };
                looked = Some((look.server, look.began));
                if look.face.is_some() {
                    faces[look.server] = look.face;
                }
                topology.observe(began.elapsed(), look.server, look.seen)
            }
            _ = tick.tick() => topology.tick(began.elapsed()),
        };
        let now = shared.now();
        let weights = now.servers.iter().map(|server| server.weight);
        topology.tune(now.max_lag, weights);
        for event in events {
            match event.level() {
                Level::Info => tracing::info!(kind = "mysql_topology", "mysql: {event}"),
                Level::Warn => tracing::warn!(kind = "mysql_topology", "mysql: {event}"),
                Level::Error => tracing::error!(kind = "mysql_topology", "mysql: {event}"),
            }
        }
        let judged = topology.view();
        if judged.ask_again {
            shared.look_again();
        }
        publish(&shared, judged, &faces);
        if let Some((server, began)) = looked {
            shared.looked.send_modify(|all| all[server] = Some(began));
        }
    }
}

pub(super) fn topology_settings(shared: &Shared) -> topology::Settings {
    let settings = &shared.settings;
    let servers = settings
        .servers
        .iter()
        .map(|server| topology::ServerSettings {
            name: Arc::clone(&server.name),
            host: server.address.ip().to_string(),
            port: server.address.port(),
            weight: server.weight,
            role: match server.role {
                Role::Auto => topology::WantedRole::Auto,
                Role::Primary => topology::WantedRole::Primary,
                Role::Replica => topology::WantedRole::Replica,
            },
            tls: matches!(server.tls, super::settings::Tls::Require(..)),
        });
    topology::Settings {
        servers: servers.collect(),
        max_lag: settings.max_lag,
        fall: settings.monitor.fall,
        stale_after: settings.monitor.interval * STALE,
    }
}

/// Gives the workers what they go by.
fn publish(shared: &Shared, judged: &topology::View, faces: &[Option<Arc<Face>>]) {
    let primary = match &judged.primary {
        topology::Primary::Server(server) => Ok(*server),
        topology::Primary::Nobody(why) => Err(Arc::from(why.to_string())),
    };
    let now = shared.now();
    let mut readers: Vec<(usize, u16)> = match now.reads {
        Reads::Primary => Vec::new(),
        Reads::Replicas | Reads::All => judged.readable().collect(),
    };
    if let (Reads::All, Ok(primary)) = (now.reads, &primary) {
        readers.push((*primary, now.servers[*primary].weight));
        readers.sort_unstable();
    }
    let seen = judged.servers.iter().map(|server| Seen {
        is_up: matches!(
            server.health,
            topology::Health::Up | topology::Health::Failing(_)
        ),
        refuses_all: server.refuses_all,
        applied: server.executed.clone().map(Arc::new),
    });
    let first = primary
        .as_ref()
        .ok()
        .and_then(|server| faces[*server].clone());
    let greeting = first.or_else(|| faces.iter().flatten().next().cloned());
    let view = View {
        epoch: judged.epoch,
        primary,
        readers: View::order(&readers),
        shares: match now.read_scheduler {
            ReadScheduler::RoundRobin => Vec::new(),
            ReadScheduler::LeastConnections => {
                readers.retain(|(_, weight)| *weight > 0);
                readers
            }
        },
        servers: seen.collect(),
        greeting: greeting.map(|first| common(&first, faces)),
    };
    shared.view.send_if_modified(|current| {
        let is_new = !current.is_same(&view);
        if is_new {
            *current = Arc::new(view);
        }
        is_new
    });
    shared.set_judged(judged.clone());
}

/// What all servers can do.
fn common(first: &Arc<Face>, faces: &[Option<Arc<Face>>]) -> Arc<Face> {
    let mut others = faces.iter().flatten();
    if others
        .all(|other| other.capabilities == first.capabilities && other.dialect == first.dialect)
    {
        return Arc::clone(first);
    }
    let mut face = (**first).clone();
    for other in faces.iter().flatten() {
        face.capabilities = face.capabilities & other.capabilities;
        face.dialect.oldest = face.dialect.oldest.min(other.dialect.oldest);
        face.dialect.newest = face.dialect.newest.max(other.dialect.newest);
    }
    Arc::new(face)
}

/// Looks at one server again and again.
async fn look_at(shared: &Arc<Shared>, server: usize, looks: &mpsc::Sender<Look>) {
    let monitor = &shared.settings.monitor;
    let patience = monitor.timeout;
    let mut tick = interval(monitor.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut connection: Option<(Connection, Version)> = None;
    let mut began = Instant::now();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.is_to_look(server) => {
                // While something is wrong every look asks for another.
                tokio::time::sleep_until((began + LEAST).into()).await;
            }
        }
        began = Instant::now();
        let mut face = None;
        let asked = timeout(patience, async {
            let (opened, version) = match &mut connection {
                Some(known) => known,
                none => {
                    let (opened, seen) = open(shared, server).await?;
                    let version = seen.version.clone();
                    face = Some(Arc::new(seen.face));
                    none.insert((opened, version))
                }
            };
            ask(shared, opened, version).await
        });
        let seen = asked.await.unwrap_or(Err(Trouble::TimedOut));
        // Of what is granted meanwhile a connection of MariaDB knows nothing.
        let may_not_see =
            matches!(&seen, Ok(seen) if matches!(seen.channels, Channels::Unknown(_)));
        if seen.is_err() || may_not_see {
            connection = None;
        }
        let look = Look {
            server,
            began,
            seen,
            face,
        };
        if looks.send(look).await.is_err() {
            return;
        }
    }
}

/// What a server looks like.
struct Opened {
    version: Version,
    face: Face,
}

/// A login of our own.
pub(super) async fn log_in(shared: &Arc<Shared>, server: usize) -> Result<LoggedIn, Failure> {
    let monitor = &shared.settings.monitor;
    let who = Who {
        user: monitor.user.as_bytes(),
        secret: &monitor.password,
        capabilities: Capabilities::MULTI_RESULTS,
        collation: COLLATION,
        database: None,
        attributes: Attributes::default(),
        is_private: true,
    };
    connect::connect(shared, server, &who, 0).await
}

async fn open(shared: &Arc<Shared>, server: usize) -> Result<(Connection, Opened), Trouble> {
    let mut logged_in = log_in(shared, server)
        .await
        .map_err(|failure| match failure {
            Failure::Refused(payload) | Failure::Full(payload) => Trouble::Login(words(&payload)),
            Failure::Trouble(sentence) if sentence.contains("refused") => Trouble::Refused,
            Failure::Trouble(sentence) => Trouble::Lost(sentence),
        })?;
    let Greeted {
        version,
        capabilities,
        collation,
    } = logged_in.greeted.take().unwrap_or_default();
    let text = String::from_utf8_lossy(&version).into_owned();
    let known = Version::parse(&text);
    let mut dialect = Dialect::from_greeting(&version)
        .ok_or_else(|| Trouble::Answer(format!("version {text} is none that lb knows")))?;
    let connection = &mut logged_in.connection;
    let mode = rows(connection, "SELECT @@GLOBAL.sql_mode").await?;
    if let Some(Some(value)) = mode.rows.first().and_then(|row| row.first()) {
        dialect.mode = SqlMode::from_value(value);
    }
    let collations = collations(connection).await?;
    let mut named = Vec::new();
    if known.family == Family::MariaDb {
        let table = rows(connection, tracked::MARIADB).await?;
        let texts = table.rows.into_iter().flatten().flatten();
        named.extend(texts.map(|name| String::from_utf8_lossy(&name).into_owned()));
    }
    let face = Face {
        version,
        capabilities,
        collation,
        family: known.family,
        dialect,
        collations: Arc::new(collations),
        track: tracked::statement(known.family, &named).into(),
    };
    let opened = Opened {
        version: known,
        face,
    };
    Ok((logged_in.connection, opened))
}

/// The server's collations, by their numbers.
async fn collations(
    connection: &mut Connection,
) -> Result<HashMap<u16, (String, String)>, Trouble> {
    let asked = "SELECT ID, CHARACTER_SET_NAME, COLLATION_NAME FROM \
                 information_schema.COLLATIONS WHERE ID IS NOT NULL AND CHARACTER_SET_NAME IS NOT NULL";
    let table = rows(connection, asked).await?;
    let text = |value: &Option<Vec<u8>>| {
        String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned()
    };
    let entry = |row: &Vec<Option<Vec<u8>>>| match row.as_slice() {
        [id, charset, collation] => {
            Some((text(id).parse().ok()?, (text(charset), text(collation))))
        }
        _ => None,
    };
    Ok(table.rows.iter().filter_map(entry).collect())
}

async fn ask(
    shared: &Shared,
    connection: &mut Connection,
    version: &Version,
) -> Result<Observation, Trouble> {
    let questions = monitor::questions(version);
    let state = rows(connection, questions.state).await?;
    if let Some(bytes) = monitor::most_packet(&state) {
        shared.note_most_packet(connection.server, bytes);
    }
    let channels = table(connection, questions.channels).await?;
    monitor::observation(version, &state, channels.as_ref()).map_err(Trouble::Answer)
}

async fn rows(connection: &mut Connection, sql: &str) -> Result<Table, Trouble> {
    table(connection, sql)
        .await?
        .map_err(|error| Trouble::Answer(error.text))
}

async fn table(
    connection: &mut Connection,
    sql: &str,
) -> Result<Result<Table, ServerError>, Trouble> {
    let lost = |broken: Broken| Trouble::Lost(broken.to_string());
    Ok(match connection.query(sql).await.map_err(lost)? {
        Answer::Done => Ok(Table::default()),
        Answer::Rows(columns, bytes) => Ok(
            read(columns, &bytes).ok_or(Trouble::Answer("its rows are malformed".to_owned()))?
        ),
        Answer::Refused(payload) => Err(ServerError {
            number: Refusal::read(&payload).map_or(0, |refusal| refusal.code),
            text: words(&payload),
        }),
    })
}

/// An error's words.
pub(super) fn words(payload: &[u8]) -> String {
    let refusal = Refusal::read(payload);
    let message = refusal.map_or(&b"an error that is none"[..], |refusal| refusal.message);
    String::from_utf8_lossy(message).into_owned()
}

/// Packets of columns and rows as a table.
fn read(columns: u64, bytes: &[u8]) -> Option<Table> {
    let mut rest = bytes;
    let mut next = move || {
        let header = Header::read(rest)?;
        let packet = rest.get(HEADER..HEADER + header.length)?;
        rest = &rest[HEADER + header.length..];
        Some(packet)
    };
    let mut table = Table::default();
    for _ in 0..columns {
        // Catalog, schema, table, original table, name.
        let mut reader = Reader(next()?);
        let name = (0..5).map(|_| reader.text()).last().flatten()?;
        table.names.push(String::from_utf8_lossy(name).into_owned());
    }
    while let Some(packet) = next() {
        let mut reader = Reader(packet);
        let row: Option<Vec<_>> = table
            .names
            .iter()
            .map(|_| Some(reader.nullable()?.map(<[u8]>::to_vec)))
            .collect();
        table.rows.push(row?);
    }
    Some(table)
}
