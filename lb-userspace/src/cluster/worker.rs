//! The thread that talks to peers: it reads what the data path tells, seals it and sends it, and
//! takes in what comes.
//!
//! Everything is done a little at a time. The whole table is gone through once in a pass, and flows
//! that packets came of here are told again; what was lost on the way, or overwritten before it was
//! read, is healed so. A peer that is new is told of everything, as fast as [`MOST_BATCHES`] allows.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lb_common::{
    abi::Ticks,
    address::Address,
    flow::{FlowView, Place},
    sync::Reader,
};

use super::{
    directory::{Directory, Sender},
    interfaces::Interfaces,
    key::Key,
    session::Peer,
    tables::Tables,
    tally::{PeerTally, Refused, Tally},
    waiting::{Ended, Standing, Waiting},
    wire::{self, Batch, Datagram, Message, State, Unreadable},
};
use crate::dataplane::{FlowTables, Words};

/// How often the rings are read and batches go out.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// How often a peer is told how this one stands.
const STATE_EVERY: Duration = Duration::from_millis(500);
/// How often others may read what was counted.
const TALLY_EVERY: Duration = Duration::from_millis(100);
/// How long a pass through the table takes.
const PASS: Duration = Duration::from_secs(15);
/// Flows that live longer than this are told of every fourth pass.
const LONG: Ticks = Ticks::from_seconds(100);
/// Batches of a pass, or of a new peer's first one, in a tick: about 100,000 flows a second.
const MOST_BATCHES: usize = 40;
/// Flows whose memory is asked for at once.
const MOST_AT_ONCE: usize = 64;
/// Datagrams that are taken in before something else is done.
const MOST_RECEIVED: usize = 512;
/// Datagrams of a peer that are opened in a tick; more are dropped.
const MOST_OPENED: u32 = 400;
/// Hellos of a peer that are looked at in a tick; an exchange takes three.
const MOST_HELLOS: u32 = 4;
/// An address is held by two balancers for that long before that is said.
const SHARED_FOR: Duration = Duration::from_secs(2);

/// What the thread is given.
pub(super) struct Given {
    pub(super) socket: UdpSocket,
    pub(super) key: Arc<Key>,
    pub(super) peers: Vec<SocketAddr>,
    pub(super) rings: Words,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) directory: Arc<Mutex<Arc<Directory>>>,
    pub(super) tally: Arc<Mutex<Tally>>,
    /// How long to wait for what the others tell, where flows were not followed before.
    pub(super) waits: Option<Duration>,
}

/// A peer, and what is on its way to it.
struct Link {
    address: SocketAddr,
    peer: Peer,
    /// Flows for it, IPv4 and others.
    batches: [Batch; 2],
    /// Where its first pass is, while it is under way.
    catching_up: Option<usize>,
    stated: Option<Instant>,
    opened: u32,
    /// Hellos of this tick.
    hellos: u32,
    /// Names of its interfaces, and which they are here.
    names: Vec<String>,
    interfaces: Vec<u32>,
    held: Vec<Address>,
    is_version_told: bool,
    is_mismatch_told: bool,
}

/// See the module.
pub(super) struct Worker<'t> {
    given: Given,
    tables: Tables<'t>,
    directory: Arc<Directory>,
    links: Vec<Link>,
    reader: Reader,
    tally: Tally,
    /// The next bucket of the pass, and which pass it is.
    pass: (usize, u32),
    began: Instant,
    tallied: Instant,
    /// Until the others have told of everything.
    waiting: Option<Waiting>,
    interfaces: Interfaces,
    interfaces_read: Option<Instant>,
    foreign_mac: u8,
    shared_since: Option<Instant>,
    is_shared_told: bool,
}

impl<'t> Worker<'t> {
    pub(super) fn new(given: Given, tables: Tables<'t>) -> Self {
        let now = Instant::now();
        let link = |address: &SocketAddr| Link {
            address: *address,
            peer: Peer::new(Arc::clone(&given.key)),
            batches: [Batch::new(true), Batch::new(false)],
            catching_up: None,
            stated: None,
            opened: 0,
            hellos: 0,
            names: Vec::new(),
            interfaces: Vec::new(),
            held: Vec::new(),
            is_version_told: false,
            is_mismatch_told: false,
        };
        Self {
            links: given.peers.iter().map(link).collect(),
            reader: Reader::new(given.rings.all()),
            tally: Tally {
                is_caught_up: given.waits.is_none(),
                ..Tally::new(&given.peers)
            },
            directory: Arc::default(),
            pass: (0, 0),
            began: now,
            tallied: now,
            waiting: given.waits.map(|most| Waiting::new(now, most)),
            interfaces: Interfaces::default(),
            interfaces_read: None,
            foreign_mac: 0,
            shared_since: None,
            is_shared_told: false,
            given,
            tables,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn work(mut self) {
        let mut buffer = [0; wire::LONGEST + 1];
        let mut due = Instant::now();
        while !self.given.stop.load(Ordering::Relaxed) {
            for _ in 0..MOST_RECEIVED {
                match self.given.socket.recv_from(&mut buffer) {
                    Ok((length, from)) => self.receive(&mut buffer[..length], from),
                    Err(error) if is_nothing(&error) => break,
                    // What an ICMP error says of a datagram that was sent.
                    Err(_) => {}
                }
                if Instant::now() >= due {
                    break;
                }
            }
            let now = Instant::now();
            if now >= due {
                self.tick(now);
                due = now + TICK;
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        let ticks = FlowTables::now();
        self.directory = Arc::clone(
            &self
                .given
                .directory
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if self
            .interfaces_read
            .is_none_or(|at| now.duration_since(at) >= STATE_EVERY)
        {
            self.interfaces_read = Some(now);
            self.read_interfaces(now);
        }
        for index in 0..self.links.len() {
            self.tend(index, now);
        }
        self.tell_new(ticks);
        self.go_on_with_pass(now, ticks);
        for index in 0..self.links.len() {
            self.catch_up(index, ticks);
            self.flush(index);
        }
        self.look_whether_told(now);
        if now.duration_since(self.tallied) >= TALLY_EVERY {
            self.tallied = now;
            self.publish();
        }
    }

    /// Sees whether this one need not wait any more for what the others tell.
    fn look_whether_told(&mut self, now: Instant) {
        let Some(waiting) = &self.waiting else {
            return;
        };
        let standing = |peer: &PeerTally| match (peer.is_up, peer.has_told) {
            (false, _) => Standing::Absent,
            (true, false) => Standing::Telling,
            (true, true) => Standing::Told,
        };
        let Some(ended) = waiting.look(now, self.tally.peers.iter().map(standing)) else {
            return;
        };
        self.waiting = None;
        self.tally.is_caught_up = true;
        self.publish();
        let received: u64 = self.tally.peers.iter().map(|one| one.flows_received).sum();
        match ended {
            Ended::Told(peers) => tracing::info!(
                kind = "caught_up",
                "{peers} of {} other balancers are there and have told of all their connections \
                 ({received})",
                self.links.len()
            ),
            Ended::Alone => tracing::info!(
                kind = "caught_up",
                "no other balancer is there to tell of connections"
            ),
            Ended::TooLong => tracing::warn!(
                kind = "caught_up",
                "other balancers have not told of all their connections within \
                 cluster.catch_up_seconds ({received} so far); not waiting any longer"
            ),
        }
    }

    /// Lets others read what was counted.
    fn publish(&self) {
        let tally = self.given.tally.lock();
        let mut tally = tally.unwrap_or_else(PoisonError::into_inner);
        tally.clone_from(&self.tally);
    }

    fn read_interfaces(&mut self, now: Instant) {
        let directory = &self.directory;
        self.interfaces = Interfaces::read(&directory.interfaces, &directory.addresses());
        self.foreign_mac = self.interfaces.foreign_mac();
        let index = |name: &String| self.interfaces.index(name);
        for link in &mut self.links {
            link.interfaces = link.names.iter().map(index).collect();
        }
        self.look_at_shared(now);
    }

    /// Greets a peer, or tells it how this one stands, or sees that it is gone.
    fn tend(&mut self, index: usize, now: Instant) {
        let link = &mut self.links[index];
        link.opened = 0;
        link.hellos = 0;
        if link.peer.tire(now) {
            self.tally.peers[index].is_up = false;
            self.tally.peers[index].has_told = false;
            link.catching_up = None;
            link.held.clear();
            tracing::warn!(
                kind = "peer_down",
                "nothing is heard of the balancer {} any more; connections that begin now do not \
                 survive a move to it",
                link.address
            );
        }
        if let Some(hello) = link.peer.greet(now) {
            send(
                &self.given.socket,
                link.address,
                &hello,
                &mut self.tally,
                index,
            );
        }
        let is_due = |at: Instant| now.duration_since(at) >= STATE_EVERY;
        if link.peer.is_up() && link.stated.is_none_or(is_due) {
            link.stated = Some(now);
            let state = State {
                interfaces: self.interfaces.names(),
                held: self.interfaces.held.clone(),
                has_told: link.catching_up.is_none(),
            };
            self.seal_and_send(index, &state.bytes());
        }
    }

    fn receive(&mut self, bytes: &mut [u8], from: SocketAddr) {
        if let Err(why) = self.try_receive(bytes, from) {
            self.tally.refuse(why);
        }
    }

    fn try_receive(&mut self, bytes: &mut [u8], from: SocketAddr) -> Result<(), Refused> {
        let index = self
            .links
            .iter()
            .position(|link| link.address == from)
            .ok_or(Refused::UnknownSender)?;
        let now = Instant::now();
        self.tally.peers[index].bytes_received += bytes.len() as u64;
        let sealed = match wire::datagram(bytes) {
            Err(Unreadable::Malformed) => return Err(Refused::Malformed),
            Err(Unreadable::Version(version)) => {
                self.tell_version(index, version);
                return Err(Refused::Version);
            }
            Ok(Datagram::Hello(hello, signed, code)) => {
                let link = &mut self.links[index];
                link.hellos += 1;
                if link.hellos > MOST_HELLOS {
                    return Err(Refused::Throttled);
                }
                let greeted = link.peer.on_hello(hello, (signed, code), now)?;
                if let Some(answer) = greeted.answer {
                    send(&self.given.socket, from, &answer, &mut self.tally, index);
                }
                if greeted.is_new {
                    self.begin(index);
                }
                return Ok(());
            }
            Ok(Datagram::Sealed(head)) => head,
        };
        let link = &mut self.links[index];
        link.peer.look_at(&sealed)?;
        link.opened += 1;
        if link.opened > MOST_OPENED {
            return Err(Refused::Throttled);
        }
        let opened = link.peer.open(&sealed, bytes, now)?;
        let message = wire::message(opened).map_err(|_| Refused::Malformed)?;
        self.tally.peers[index].heard = Some(now);
        match message {
            Message::State(state) => self.note_state(index, state, now),
            Message::Flows(records) => {
                let ticks = FlowTables::now();
                self.tally.peers[index].flows_received += records.len() as u64;
                let places = records.iter().map(|record| self.tables.place_of(record));
                self.tables.ask_for(places);
                for record in &records {
                    let link = &mut self.links[index];
                    let sender = Sender {
                        interfaces: &link.interfaces,
                        foreign_mac: self.foreign_mac,
                    };
                    let fate = self.tables.adopt(&self.directory, record, &sender, ticks);
                    self.tally.note(fate);
                    if fate.is_mismatch() && !link.is_mismatch_told {
                        link.is_mismatch_told = true;
                        tracing::warn!(
                            kind = "peer_mismatch",
                            "the balancer {} tells of connections that cannot be taken over here \
                             ({}), to {}: its config is another one; they would not survive a move",
                            link.address,
                            fate.label(),
                            IpAddr::from(record.service)
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// A session has begun: the peer has to be told of everything.
    fn begin(&mut self, index: usize) {
        let link = &mut self.links[index];
        let tally = &mut self.tally.peers[index];
        link.catching_up = Some(0);
        link.stated = None;
        link.is_mismatch_told = false;
        link.is_version_told = false;
        for batch in &mut link.batches {
            batch.clear();
        }
        tally.has_told = false;
        tally.sessions += 1;
        tally.heard = Some(Instant::now());
        if !tally.is_up {
            tally.is_up = true;
            tracing::info!(
                kind = "peer_up",
                "the balancer {} is there; it is told of all connections",
                link.address
            );
        }
    }

    fn note_state(&mut self, index: usize, state: State, now: Instant) {
        let link = &mut self.links[index];
        let index_of = |name: &String| self.interfaces.index(name);
        link.interfaces = state.interfaces.iter().map(index_of).collect();
        link.names = state.interfaces;
        link.held = state.held;
        self.tally.peers[index].has_told |= state.has_told;
        self.look_at_shared(now);
    }

    fn tell_version(&mut self, index: usize, version: u8) {
        let link = &mut self.links[index];
        if !link.is_version_told {
            link.is_version_told = true;
            tracing::warn!(
                kind = "peer_mismatch",
                "the balancer {} speaks version {version} of the synchronisation, this one {}: \
                 nothing is taken over until both are of one version",
                link.address,
                wire::VERSION
            );
        }
    }

    /// Sees whether two balancers have the same address, each for itself: both answer for it.
    fn look_at_shared(&mut self, now: Instant) {
        let own: HashSet<Address> = self.interfaces.held.iter().copied().collect();
        let mut shared: Vec<IpAddr> = Vec::new();
        let mut who = None;
        for link in &self.links {
            for address in link.held.iter().filter(|address| own.contains(*address)) {
                who = Some(link.address);
                let address = IpAddr::from(*address);
                if !shared.contains(&address) {
                    shared.push(address);
                }
            }
        }
        let Some(who) = who else {
            self.shared_since = None;
            self.tally.shared.clear();
            if std::mem::take(&mut self.is_shared_told) {
                self.publish();
                tracing::info!(
                    kind = "split_brain_over",
                    "no address of a service is on two balancers any more"
                );
            }
            return;
        };
        let since = *self.shared_since.get_or_insert(now);
        if now.duration_since(since) < SHARED_FOR {
            return;
        }
        self.tally.shared = shared;
        if !self.is_shared_told {
            self.is_shared_told = true;
            self.publish();
            tracing::error!(
                kind = "split_brain",
                "this host and the balancer {who} have the address {} at the same time: both \
                 answer for it, and clients reach now one, now the other; both go on forwarding \
                 and tell each other of their connections",
                self.tally.shared[0]
            );
        }
    }

    /// Sends what the data path told of since the last time.
    fn tell_new(&mut self, now: Ticks) {
        let mut marks = Vec::new();
        let rings = self.given.rings.clone();
        self.tally.overwritten += self.reader.drain(rings.all(), |mark| marks.push(mark));
        if !self.links.iter().any(|link| link.peer.is_up()) {
            return;
        }
        let mut views = Vec::with_capacity(marks.len());
        for marks in marks.chunks(MOST_AT_ONCE) {
            let places = marks.iter().map(|mark| Place::from_hash(*mark));
            self.tables.ask_for(places);
            for mark in marks {
                self.tables.told(*mark, |view| {
                    if !view.sides.is_foreign || view.is_closed {
                        views.push(*view);
                    }
                });
            }
        }
        for index in 0..self.links.len() {
            for view in &views {
                self.queue(index, view, now);
            }
        }
    }

    /// The next part of the pass.
    fn go_on_with_pass(&mut self, now: Instant, ticks: Ticks) {
        let buckets = self.tables.established.len();
        let (mut at, pass) = self.pass;
        let through = now.duration_since(self.began).as_secs_f64() / PASS.as_secs_f64();
        let wanted = ((through * buckets as f64) as usize).min(buckets);
        let mut room = MOST_BATCHES * wire::MOST_WIDE;
        let tables = self.tables.established;
        while at < wanted && room > 0 {
            for view in tables[at].views() {
                if self.is_to_be_told(&view, pass, ticks) {
                    room = room.saturating_sub(1);
                    for index in 0..self.links.len() {
                        self.queue(index, &view, ticks);
                    }
                }
            }
            at += 1;
        }
        self.pass = (at, pass);
        if at >= buckets {
            self.pass = (0, pass.wrapping_add(1));
            self.began = now;
        }
    }

    /// Whether a flow is told of in a pass.
    fn is_to_be_told(&self, view: &FlowView, pass: u32, now: Ticks) -> bool {
        if view.sides.is_foreign || view.is_expired(now) {
            return false;
        }
        let key = &view.flow.key;
        let is_long = self
            .directory
            .idle_timeout(view.flow.backend)
            .is_some_and(|timeout| timeout > LONG.0);
        let place = Place::of(
            &self.tables.settings,
            key.client,
            key.client_port,
            key.protocol,
        );
        !is_long || view.is_closed || (place.hash() >> 40) as u32 % 4 == pass % 4
    }

    /// The next part of what a new peer is told.
    fn catch_up(&mut self, index: usize, now: Ticks) {
        let Some(mut at) = self.links[index].catching_up else {
            return;
        };
        let tables = self.tables.established;
        let mut room = MOST_BATCHES * wire::MOST_WIDE;
        while room > 0 {
            let Some(bucket) = tables.get(at) else {
                self.links[index].catching_up = None;
                // So that it is said at once, behind the last of them.
                self.links[index].stated = None;
                return;
            };
            for view in bucket.views() {
                if !view.is_expired(now) && !view.is_closed {
                    room = room.saturating_sub(1);
                    self.queue(index, &view, now);
                }
            }
            at += 1;
        }
        self.links[index].catching_up = Some(at);
    }

    /// Puts a flow into a peer's batch, and sends that when it is full.
    fn queue(&mut self, index: usize, view: &FlowView, now: Ticks) {
        let link = &mut self.links[index];
        if !link.peer.is_up() {
            return;
        }
        let Some(record) = self.directory.record(view, &self.interfaces, now) else {
            return;
        };
        let form = usize::from(!record.is_narrow());
        if link.batches[form].push(&record) {
            self.flush_one(index, form);
        }
    }

    fn flush(&mut self, index: usize) {
        for form in 0..2 {
            self.flush_one(index, form);
        }
    }

    fn flush_one(&mut self, index: usize, form: usize) {
        let empty = Batch::new(form == 0);
        let batch = &mut self.links[index].batches[form];
        if batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(batch, empty);
        self.tally.peers[index].flows_sent += batch.len() as u64;
        self.seal_and_send(index, batch.bytes());
    }

    fn seal_and_send(&mut self, index: usize, message: &[u8]) {
        let link = &mut self.links[index];
        if let Some(sealed) = link.peer.seal(message) {
            send(
                &self.given.socket,
                link.address,
                &sealed,
                &mut self.tally,
                index,
            );
        }
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], tally: &mut Tally, index: usize) {
    // What a former datagram met with is told by the next call; it is worth one more.
    let sent = socket
        .send_to(bytes, to)
        .or_else(|_| socket.send_to(bytes, to));
    match sent {
        Ok(length) => tally.peers[index].bytes_sent += length as u64,
        Err(_) => tally.unsent += 1,
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
