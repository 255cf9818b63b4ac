//! The task that feeds the tracker from the kernel and tells what changes.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rtnetlink::{
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    Event, Link, link, requests,
    sockets::Sockets,
    tracker::{NeighbourKey, Reachability, Tracker},
};

/// How long changes are gathered before they are acted upon.
const DEBOUNCE: Duration = Duration::from_millis(3);
/// How often neighbours that do not answer are asked for again.
const RETRY: Duration = Duration::from_secs(1);
/// Every how many retries neighbours that the kernel does not keep fresh are used.
const REFRESH_EVERY: u32 = 5;
/// Every how many retries all is read anew, in case some change was never told.
const RESYNC_EVERY: u32 = 60;
/// Requests in flight at a time.
const CONCURRENCY: usize = 64;
/// From that many neighbours on, reading all is cheaper than asking for each.
const MANY: usize = 32;
/// How often one address may be verified.
const VERIFY_EVERY: Duration = Duration::from_secs(10);
/// How long a failure that a verification itself causes is not believed.
const VERIFY_GRACE: Duration = Duration::from_millis(500);

/// How often an overrun is told.
const TELL_OVERRUN_EVERY: Duration = Duration::from_secs(60);

/// What the task is told.
pub(super) enum Command {
    SetAddresses(HashSet<IpAddr>),
    Verify(IpAddr),
    Release(oneshot::Sender<()>),
}

/// What to think of neighbours that are found as failed.
#[derive(Clone, Copy)]
enum Failures {
    /// Nobody has asked for them lately, so that the failure says little.
    Old,
    /// They were asked for, in vain.
    Ours,
}

/// Opens the sockets and begins.
pub(super) fn spawn(
    addresses: &HashSet<IpAddr>,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<Event>,
) -> io::Result<()> {
    let sockets = Sockets::open()?;
    let mut tracker = Tracker::default();
    tracker.set_addresses(addresses);
    let task = Task {
        tracker,
        events,
        commands,
        sockets,
        verified: HashMap::new(),
        is_table_full_told: false,
        overrun_told: None,
        needs_resync: true,
    };
    tokio::spawn(task.run());
    Ok(())
}

struct Task {
    tracker: Tracker,
    events: mpsc::UnboundedSender<Event>,
    commands: mpsc::UnboundedReceiver<Command>,
    sockets: Sockets,
    verified: HashMap<NeighbourKey, Instant>,
    is_table_full_told: bool,
    overrun_told: Option<Instant>,
    needs_resync: bool,
}

impl Task {
    async fn run(mut self) {
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retries = 0u32;
        let mut due = Some(Instant::now());
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::SetAddresses(addresses)) => {
                        self.tracker.set_addresses(&addresses);
                        due.get_or_insert_with(|| Instant::now() + DEBOUNCE);
                    }
                    Some(Command::Verify(address)) => self.verify(address).await,
                    Some(Command::Release(done)) => {
                        self.release().await;
                        // Nobody waits if the agent is being torn down.
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    self.work().await;
                }
                message = self.sockets.notifications.recv() => match message {
                    Some(message) => {
                        if self.note(&message) {
                            due.get_or_insert_with(|| Instant::now() + DEBOUNCE);
                        }
                    }
                    None => {
                        self.reopen().await;
                        due = Some(Instant::now());
                    }
                },
                _ = retry.tick() => {
                    retries = retries.wrapping_add(1);
                    self.needs_resync |= retries.is_multiple_of(RESYNC_EVERY);
                    self.ask_again(retries.is_multiple_of(REFRESH_EVERY)).await;
                    if self.needs_resync {
                        due = Some(Instant::now());
                    }
                }
            }
            if self.events.is_closed() {
                return;
            }
        }
    }

    /// Takes in a notification, and says whether it matters.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of the kernel's many messages these are the ones that matter"
    )]
    fn note(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let message = match &message.payload {
            NetlinkPayload::InnerMessage(message) => message,
            NetlinkPayload::Overrun(_) => {
                self.note_overrun();
                return true;
            }
            _ => return false,
        };
        match message {
            RouteNetlinkMessage::NewLink(message) => match Link::from_message(message) {
                Some(link) => {
                    self.tracker.note_link(link);
                    true
                }
                None => false,
            },
            RouteNetlinkMessage::DelLink(message) => {
                if !link::is_about_the_whole(message) {
                    return false;
                }
                self.tracker.note_link_gone(message.header.index);
                true
            }
            RouteNetlinkMessage::NewNeighbour(message) => {
                let Some(news) = requests::read_neighbour(message) else {
                    return false;
                };
                let is_own_doing = news.reachability == Reachability::Failed
                    && self
                        .verified
                        .get(&news.key)
                        .is_some_and(|at| at.elapsed() < VERIFY_GRACE);
                if !is_own_doing {
                    self.tracker
                        .note_neighbour(news.key, news.reachability, Some(news.is_managed));
                }
                true
            }
            RouteNetlinkMessage::DelNeighbour(message) => {
                let Some(news) = requests::read_neighbour(message) else {
                    return false;
                };
                self.tracker.note_neighbour_gone(news.key);
                true
            }
            RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => {
                self.note_route_change(message)
            }
            RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => {
                self.tracker.distrust_routes();
                true
            }
            _ => false,
        }
    }

    /// The kernel had more to tell than there was room for, and has dropped the rest.
    fn note_overrun(&mut self) {
        self.needs_resync = true;
        if self
            .overrun_told
            .is_none_or(|at| at.elapsed() >= TELL_OVERRUN_EVERY)
        {
            self.overrun_told = Some(Instant::now());
            tracing::warn!(
                "missed what the kernel told of interfaces, routes and neighbours, because it was \
                 too much at once; reading all of them anew"
            );
        }
    }

    fn note_route_change(&mut self, message: &RouteMessage) -> bool {
        if message.header.flags.contains(RouteFlags::Cloned) {
            return false;
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "of the kernel's many attributes this is the one that matters"
        )]
        let prefix = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
                RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
                _ => None,
            });
        match prefix {
            Some(prefix) => {
                let length = message.header.destination_prefix_length;
                self.tracker.distrust_prefix(prefix, length);
            }
            None => self.tracker.distrust_routes(),
        }
        true
    }

    /// Looks up what is not known, and tells what changed.
    async fn work(&mut self) {
        if self.needs_resync && self.resync().await.is_ok() {
            self.needs_resync = false;
        }
        let handle = &self.sockets.handle;
        let unrouted = self.tracker.take_unrouted();
        let mut routes = stream::iter(unrouted)
            .map(|address| async move { (address, requests::route(handle, address).await) })
            .buffer_unordered(CONCURRENCY);
        while let Some((address, route)) = routes.next().await {
            self.tracker.note_route(address, route);
        }
        drop(routes);
        let unseen = self.tracker.take_unseen();
        self.look_up(&unseen, Failures::Old).await;
        self.ask(unseen).await;
        for key in self.tracker.take_doubted() {
            self.doubt(key).await;
        }
        for key in self.tracker.take_dropped() {
            // It may be gone, or its interface; then there is nothing to take back.
            let _ = requests::release_neighbour(&self.sockets.handle, key).await;
        }
        self.tell();
    }

    fn tell(&mut self) {
        for event in self.tracker.take_events() {
            // A closed channel ends the task at the next turn.
            let _ = self.events.send(event);
        }
    }

    async fn resync(&mut self) -> io::Result<()> {
        let links = requests::links(&self.sockets.handle).await?;
        self.tracker.note_all_links(links);
        let known: Vec<_> = self.tracker.neighbours().map(|(key, _)| key).collect();
        self.look_up(&known, Failures::Ours).await;
        self.tracker.distrust_routes();
        Ok(())
    }

    /// Reads what the kernel knows of neighbours now.
    async fn look_up(&mut self, keys: &[NeighbourKey], failures: Failures) {
        let judge = |reachability| match (reachability, failures) {
            (Reachability::Failed, Failures::Old) => Reachability::Unknown,
            _ => reachability,
        };
        // What the kernel has forgotten meanwhile it does not keep fresh any more either.
        let forgets = matches!(failures, Failures::Ours);
        if keys.len() < MANY {
            for &key in keys {
                let reachability = requests::neighbour(&self.sockets.handle, key).await;
                if forgets && reachability == Reachability::Unknown {
                    self.tracker.note_neighbour_gone(key);
                } else {
                    self.tracker.note_neighbour(key, judge(reachability), None);
                }
            }
            return;
        }
        match requests::neighbours(&self.sockets.handle).await {
            Ok(all) => {
                if forgets {
                    let known: HashSet<NeighbourKey> = all.iter().map(|news| news.key).collect();
                    for key in keys.iter().filter(|key| !known.contains(key)) {
                        self.tracker.note_neighbour_gone(*key);
                    }
                }
                for news in all {
                    self.tracker.note_neighbour(
                        news.key,
                        judge(news.reachability),
                        Some(news.is_managed),
                    );
                }
            }
            Err(error) => tracing::warn!("cannot read the kernel's neighbours: {error}"),
        }
    }

    /// Has the kernel resolve neighbours, but not those set by hand: the request would take that
    /// from them.
    async fn ask(&mut self, keys: Vec<NeighbourKey>) {
        let handle = &self.sockets.handle;
        let tracker = &self.tracker;
        let failures: Vec<_> = stream::iter(keys)
            .filter(|key| {
                let is_ours = tracker
                    .neighbour(*key)
                    .is_some_and(|found| !found.is_static);
                async move { is_ours }
            })
            .map(|key| async move { requests::use_neighbour(handle, key).await.err() })
            .buffer_unordered(CONCURRENCY)
            .filter_map(|error| async { error })
            .collect()
            .await;
        for error in failures {
            if error.raw_os_error() == Some(libc::ENOBUFS) && !self.is_table_full_told {
                self.is_table_full_told = true;
                tracing::warn!(
                    "the kernel's neighbour table is full, so backends stay out of rotation; \
                     raise net.ipv4.neigh.default.gc_thresh3 (or net.ipv6…)"
                );
            }
        }
    }

    /// Asks again for neighbours that did not answer, and uses those that the kernel does not keep
    /// fresh by itself.
    async fn ask_again(&mut self, refresh: bool) {
        let keys = self
            .tracker
            .neighbours()
            .filter(|(_, neighbour)| neighbour.is_unsettled() || (refresh && !neighbour.is_managed))
            .map(|(key, _)| key)
            .collect();
        self.ask(keys).await;
    }

    async fn verify(&mut self, address: IpAddr) {
        let Some(key) = self.tracker.on_link(address) else {
            return;
        };
        let is_due = self
            .verified
            .get(&key)
            .is_none_or(|at| at.elapsed() >= VERIFY_EVERY);
        let is_ours = self
            .tracker
            .neighbour(key)
            .is_some_and(|found| !found.is_static);
        if !is_due || !is_ours {
            return;
        }
        self.doubt(key).await;
    }

    /// Has the kernel ask everyone for a neighbour's MAC; until there is an answer the known one
    /// stays in use.
    async fn doubt(&mut self, key: NeighbourKey) {
        self.verified.retain(|_, at| at.elapsed() < VERIFY_EVERY);
        // The kernel may have got a static entry in this very moment.
        if let Reachability::Static(_) = requests::neighbour(&self.sockets.handle, key).await {
            return;
        }
        self.verified.insert(key, Instant::now());
        if requests::doubt_neighbour(&self.sockets.handle, key)
            .await
            .is_ok()
        {
            self.ask(vec![key]).await;
        }
    }

    async fn release(&mut self) {
        let ours: Vec<_> = self
            .tracker
            .neighbours()
            .filter(|(_, neighbour)| !neighbour.is_static)
            .map(|(key, _)| key)
            .collect();
        let handle = &self.sockets.handle;
        stream::iter(ours)
            .map(|key| async move { requests::release_neighbour(handle, key).await })
            .buffer_unordered(CONCURRENCY)
            .for_each(|_| async {})
            .await;
    }

    /// After the socket broke, which takes the kernel to run out of memory or worse.
    async fn reopen(&mut self) {
        loop {
            tracing::warn!("lost the netlink socket; opening another");
            match Sockets::open() {
                Ok(sockets) => {
                    self.sockets = sockets;
                    self.needs_resync = true;
                    return;
                }
                Err(error) => tracing::warn!("cannot open a netlink socket: {error}"),
            }
            sleep(RETRY).await;
        }
    }
}
