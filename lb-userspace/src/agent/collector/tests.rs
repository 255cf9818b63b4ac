use std::sync::Mutex;

use lb_common::{
    abi::Protocol,
    address::Address,
    flow::{ClientLink, FlowKey, NewFlow, Path, Shift},
    host::FlowMemory,
};

use super::*;
use crate::agent::firewall::services::Access;

/// What a watcher was told: ports of clients, and rounds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    live: Vec<u16>,
    removed: Vec<u16>,
    rounds: u32,
}

struct Listener(Arc<Mutex<Told>>);

impl FlowWatcher for Listener {
    fn live(&mut self, _: FlowTable, flow: &FlowView) {
        self.0.lock().unwrap().live.push(flow.flow.key.client_port);
    }

    fn removed(&mut self, _: FlowTable, flow: &FlowView) {
        let mut told = self.0.lock().unwrap();
        told.removed.push(flow.flow.key.client_port);
    }

    fn round_ended(&mut self) {
        self.0.lock().unwrap().rounds += 1;
    }
}

fn flow(client_port: u16, expires: u32) -> NewFlow {
    NewFlow {
        key: FlowKey {
            client: Address::from_v4([198, 51, 100, 7]),
            client_port,
            service: Address::from_v4([203, 0, 113, 10]),
            service_port: 80,
            protocol: Protocol::Tcp as u8,
        },
        backend: 1,
        link: ClientLink::default(),
        expires: Ticks(expires),
        path: Path::DIRECT,
        own_mac: 0,
        client_finished: false,
        shift: Shift::NONE,
    }
}

struct Stage {
    tables: FlowTables,
    round: Round,
    collected: Arc<Collected>,
    told: Arc<Mutex<Told>>,
    watchers: Vec<Box<dyn FlowWatcher>>,
}

impl Stage {
    fn new(established: u32, half_open: u32) -> Self {
        let tables = FlowTables::detached(established, half_open).unwrap();
        let collected = Arc::<Collected>::default();
        let told = Arc::<Mutex<Told>>::default();
        Self {
            round: Round::new(tables.clone(), Arc::clone(&collected)),
            tables,
            collected,
            watchers: vec![Box::new(Listener(Arc::clone(&told)))],
            told,
        }
    }

    fn memory(&self) -> FlowMemory<'_> {
        let [established, half_open] = TABLES.map(|table| self.tables.own(table));
        FlowMemory::new(7, Ticks(0), established, half_open)
    }

    fn add(&self, table: FlowTable, client_port: u16, expires: u32) {
        let _ = self.memory().insert(table, &flow(client_port, expires));
    }

    /// Slices until a round has ended; returns how many it took.
    fn go_round(&mut self, gone: u32) -> usize {
        let before = self.told.lock().unwrap().rounds;
        (1..)
            .find(|_| {
                self.round.slice(Ticks(gone), &mut self.watchers);
                self.told.lock().unwrap().rounds > before
            })
            .unwrap()
    }

    fn told(&self) -> Told {
        let mut told = std::mem::take(&mut *self.told.lock().unwrap());
        told.live.sort_unstable();
        told.removed.sort_unstable();
        told
    }
}

#[test]
fn flows_that_a_service_keeps_out_end_at_once_and_do_not_come_back() {
    use lb_common::{
        abi::EndpointKey,
        firewall::{Action, Prefix},
    };
    let mut stage = Stage::new(1024, 256);
    for port in 1..=50 {
        stage.add(FlowTable::Established, port, 2000);
        stage.add(FlowTable::HalfOpen, 100 + port, 2000);
    }
    let client = Prefix::new([198, 51, 100, 7].into(), 32);
    let access = Access::from([(client, client.entry(Action::Deny))]);
    let of_port = |port| EndpointKey::new(Address::from_v4([203, 0, 113, 10]), port, 6);
    let rules = |port| Arc::new(Rules::new([(of_port(port), access.clone())].into_iter()));
    stage.round.keep_out(rules(81));
    let _ = stage.go_round(1000);
    assert_eq!(stage.told().live.len(), 100, "another service's");
    stage.round.keep_out(rules(80));
    let left = |stage: &Stage| {
        let views = |table| stage.tables.own(table).iter().flat_map(|one| one.views());
        TABLES.map(|table| views(table).count())
    };
    assert_eq!(left(&stage), [0, 0]);
    // Another balancer still tells of one.
    stage.add(FlowTable::Established, 7, 2000);
    let _ = stage.go_round(1000);
    assert_eq!(stage.told().live, [0; 0]);
    assert_eq!(left(&stage), [0, 0]);
}

#[test]
fn a_round_takes_its_time_and_tells_of_every_flow_once() {
    let mut stage = Stage::new(1024, 256);
    for port in 1..=500 {
        stage.add(FlowTable::Established, port, 900 + u32::from(port));
    }
    for port in 501..=600 {
        stage.add(FlowTable::HalfOpen, port, 900 + u32::from(port));
    }
    // Those to 150 and none of the half-open ones have expired.
    assert!((SLICES - 2..=SLICES + 1).contains(&stage.go_round(1051)));
    let told = stage.told();
    assert_eq!(told.removed, (1..=150).collect::<Vec<_>>());
    assert_eq!(told.live, (151..=600).collect::<Vec<_>>());
    assert_eq!(told.rounds, 1);
    assert_eq!(stage.collected.expired(FlowTable::Established), 150);
    assert_eq!(stage.collected.expired(FlowTable::HalfOpen), 0);
    // All of them.
    let _ = stage.go_round(u32::MAX);
    assert_eq!(stage.told().removed, (151..=600).collect::<Vec<_>>());
    assert_eq!(stage.collected.expired(FlowTable::Established), 500);
    assert_eq!(stage.collected.expired(FlowTable::HalfOpen), 100);
}

#[test]
fn a_place_that_a_killed_agent_had_claimed_is_free_after_the_second_round() {
    let mut stage = Stage::new(1, 1);
    let dying = FlowMemory {
        before_publishing: || std::panic::resume_unwind(Box::new("killed")),
        ..stage.memory()
    };
    let insert = || dying.insert(FlowTable::Established, &flow(7, 2000));
    assert!(std::panic::catch_unwind(insert).is_err());
    let claimed = |stage: &Stage| {
        let mut claimed = 0;
        stage.tables.own(FlowTable::Established)[0].sweep(Ticks(0), |found| {
            claimed += u32::from(matches!(found, Swept::Claimed(_)));
        });
        claimed
    };
    assert_eq!(claimed(&stage), 1);
    let _ = stage.go_round(500);
    assert_eq!(claimed(&stage), 1, "its owner may still be at work");
    let _ = stage.go_round(500);
    assert_eq!(claimed(&stage), 0);
    assert!(stage.told().removed.is_empty());
}

#[test]
fn the_thread_collects_and_stops() {
    let stage = Stage::new(1, 1);
    let now = FlowTables::now().0;
    stage.add(FlowTable::HalfOpen, 1, now.saturating_sub(100));
    stage.add(FlowTable::HalfOpen, 2, now + 1000);
    let (sender, removed) = mpsc::channel();
    struct Sender(mpsc::Sender<u16>);
    impl FlowWatcher for Sender {
        fn live(&mut self, _: FlowTable, _: &FlowView) {}
        fn removed(&mut self, _: FlowTable, flow: &FlowView) {
            let _ = self.0.send(flow.flow.key.client_port);
        }
        fn round_ended(&mut self) {}
    }
    let collector = Collector::start(
        stage.tables.clone(),
        Arc::clone(&stage.collected),
        vec![Box::new(Sender(sender))],
        (Vec::new(), Ward::default()),
    )
    .unwrap();
    assert_eq!(removed.recv_timeout(Duration::from_secs(10)), Ok(1));
    drop(collector);
    // Its end of the channel is gone with it, and it said nothing more.
    assert_eq!(removed.recv(), Err(mpsc::RecvError));
    assert_eq!(stage.collected.expired(FlowTable::HalfOpen), 1);
}
