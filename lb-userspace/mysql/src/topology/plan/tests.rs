//! Plans on servers that do as they are told, or not.

use std::time::Duration;

use super::{
    super::{
        Health, IoThread, Topology, Trouble,
        testing::{play, seen, settings},
    },
    *,
};
use crate::topology::{Settings, View};

/// Two servers take writes or not, and copy or not; statements change that.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fake {
    takes_writes: [bool; 3],
    copies: [bool; 3],
    is_held: bool,
    statements: Vec<String>,
}

impl Fake {
    fn run(&mut self, order: &Order) -> Option<Vec<u8>> {
        match order {
            Order::HoldWrites { .. } => self.is_held = true,
            Order::ReleaseWrites => self.is_held = false,
            Order::HoldLease { .. } => {}
            Order::Run {
                server, statements, ..
            } => {
                for statement in statements {
                    self.one(*server, statement.sql());
                    self.statements.push(format!("{server}: {statement}"));
                }
                let last = statements.last()?.sql();
                if last.contains("gtid_executed") {
                    return Some(b"61616161-6161-6161-6161-616161616161:1-9".to_vec());
                } else if last.contains("gtid_binlog_pos") {
                    return Some(b"0-1-9".to_vec());
                }
                return Some(b"0".to_vec());
            }
        }
        None
    }

    fn one(&mut self, server: usize, sql: &str) {
        if sql.contains("read_only = ON") {
            self.takes_writes[server] = false;
        } else if sql.contains("SET GLOBAL read_only = OFF") {
            self.takes_writes[server] = true;
        } else if sql.starts_with("START ") {
            self.copies[server] = true;
        } else if sql.starts_with("STOP ") && !sql.contains("IO_THREAD") {
            self.copies[server] = false;
        }
        let writing = self.takes_writes.iter().filter(|takes| **takes).count();
        assert!(
            writing <= 1,
            "two take writes: {sql}\n{:#?}",
            self.statements
        );
    }
}

fn account() -> ReplicationAccount {
    ReplicationAccount::new("copy".to_owned(), "it's".to_owned())
}

fn cluster(is_mariadb: bool) -> (Settings, View) {
    let row = if is_mariadb {
        "a=rw has:0-1-9; b=ro <a has:0-1-9; c=ro <a has:0-1-9"
    } else {
        "a=rw has:a1-9; b=ro <a has:a1-9; c=ro <a has:a1-9"
    };
    let (topology, _) = play("a b c", is_mariadb, &[(row, "1 a [bc]")]);
    (settings("a b c"), topology.view().clone())
}

fn lost(is_mariadb: bool) -> (Settings, View) {
    let rows = if is_mariadb {
        [
            (
                "a=rw has:0-1-9; b=ro <a has:0-1-7; c=ro <a has:0-1-9",
                "1 a [bc]",
            ),
            (
                "a=down; b=ro <a! has:0-1-7; c=ro <a! has:0-1-9",
                "1 Lost [bc]",
            ),
        ]
    } else {
        [
            (
                "a=rw has:a1-9; b=ro <a has:a1-7; c=ro <a has:a1-9",
                "1 a [bc]",
            ),
            (
                "a=down; b=ro <a! has:a1-7; c=ro <a! has:a1-9",
                "1 Lost [bc]",
            ),
        ]
    };
    let (topology, _) = play("a b c", is_mariadb, &rows);
    (settings("a b c"), topology.view().clone())
}

/// Carries a plan out; the order of this number is answered otherwise, done or not.
fn drive(
    mut plan: Plan,
    fake: &mut Fake,
    odd: Option<&(usize, Answer, bool)>,
) -> (End, Vec<String>) {
    for number in 0.. {
        assert!(number < 100, "it has no end: {:?}", plan.report());
        let Some(order) = plan.next_order() else {
            break;
        };
        assert_eq!(
            plan.next_order().as_ref(),
            Some(&order),
            "the same until it is answered"
        );
        assert_eq!(plan.end(), None);
        match odd {
            Some((which, answer, is_done)) if *which == number => {
                if *is_done {
                    fake.run(&order);
                }
                plan.answered(answer);
            }
            Some(_) | None => {
                let value = fake.run(&order);
                plan.answered(&Answer::Done(value));
            }
        }
    }
    (plan.end().unwrap(), plan.report().to_vec())
}

fn fake() -> Fake {
    Fake {
        takes_writes: [true, false, false],
        copies: [false, true, true],
        is_held: false,
        statements: Vec::new(),
    }
}

#[test]
fn a_switch_over_goes_step_by_step() {
    let (settings, view) = cluster(false);
    let plan = switchover(&settings, &view, "b", Times::default(), Some(&account())).unwrap();
    assert_eq!(plan.outline().len(), 10);
    let mut fake = fake();
    let (end, report) = drive(plan, &mut fake, None);
    assert_eq!(end, End::Done, "{report:?}");
    assert_eq!(fake.takes_writes, [false, true, false]);
    assert_eq!((fake.copies, fake.is_held), ([true, false, true], false));
    assert_eq!(
        fake.statements,
        [
            "0: SET SESSION lock_wait_timeout = 5",
            "0: SET GLOBAL super_read_only = ON",
            "0: SELECT @@GLOBAL.gtid_executed",
            "1: SELECT WAIT_FOR_EXECUTED_GTID_SET('61616161-6161-6161-6161-616161616161:1-9', \
             10.000)",
            "1: STOP REPLICA FOR CHANNEL ''",
            "1: SET GLOBAL super_read_only = OFF",
            "1: SET GLOBAL read_only = OFF",
            "1: RESET REPLICA ALL FOR CHANNEL ''",
            "0: CHANGE REPLICATION SOURCE TO SOURCE_HOST = '10.0.0.2', SOURCE_PORT = 3306, \
             SOURCE_USER = 'copy', SOURCE_PASSWORD = '…', SOURCE_CONNECT_RETRY = 10, \
             SOURCE_RETRY_COUNT = 86400, SOURCE_AUTO_POSITION = 1, \
             GET_SOURCE_PUBLIC_KEY = 1 FOR CHANNEL ''",
            "0: START REPLICA FOR CHANNEL ''",
            "2: STOP REPLICA FOR CHANNEL ''",
            "2: CHANGE REPLICATION SOURCE TO SOURCE_HOST = '10.0.0.2', SOURCE_PORT = 3306, \
             SOURCE_AUTO_POSITION = 1 FOR CHANNEL ''",
            "2: START REPLICA FOR CHANNEL ''",
        ]
    );
    let (settings, view) = cluster(true);
    let plan = switchover(&settings, &view, "b", Times::default(), Some(&account())).unwrap();
    let mut fake = self::fake();
    drive(plan, &mut fake, None);
    assert_eq!(
        fake.statements,
        [
            "0: SET SESSION lock_wait_timeout = 5",
            "0: SET GLOBAL read_only = ON",
            "0: SELECT @@GLOBAL.gtid_binlog_pos",
            "1: SELECT MASTER_GTID_WAIT('0-1-9', 10.000)",
            "1: STOP SLAVE ''",
            "1: SET GLOBAL read_only = OFF",
            "1: RESET SLAVE '' ALL",
            "0: SET GLOBAL gtid_slave_pos = '0-1-9'",
            "0: CHANGE MASTER '' TO MASTER_HOST = '10.0.0.2', MASTER_PORT = 3306, MASTER_USER = \
             'copy', MASTER_PASSWORD = '…', MASTER_CONNECT_RETRY = 10, MASTER_USE_GTID = slave_pos",
            "0: START SLAVE ''",
            "2: STOP SLAVE ''",
            "2: CHANGE MASTER '' TO MASTER_HOST = '10.0.0.2', MASTER_PORT = 3306, MASTER_USE_GTID \
             = slave_pos",
            "2: START SLAVE ''",
        ]
    );
}

/// Whatever fails, and whether it was done all the same: never do two take writes, and unless it
/// says that it is stuck, either all is done or all is as it was.
#[test]
fn whatever_fails_no_two_take_writes() {
    for is_mariadb in [false, true] {
        for is_failover in [false, true] {
            let plan = || {
                let times = Times::default();
                if is_failover {
                    let (settings, view) = lost(is_mariadb);
                    failover(&settings, &view, None, times, true).unwrap()
                } else {
                    let (settings, view) = cluster(is_mariadb);
                    switchover(&settings, &view, "b", times, Some(&account())).unwrap()
                }
            };
            let mut before = fake();
            before.takes_writes[0] = !is_failover;
            for number in 0..plan().outline().len() {
                for (answer, is_done) in [
                    (Answer::Refused("no".to_owned()), false),
                    (Answer::Unknown("lost".to_owned()), false),
                    (Answer::Unknown("lost".to_owned()), true),
                ] {
                    let mut fake = before.clone();
                    let (end, report) = drive(plan(), &mut fake, Some(&(number, answer, is_done)));
                    let report = report.join("\n");
                    // Letting go on is the runtime's own, and does not fail.
                    let is_refused = report.contains("by hand: let writes go on");
                    assert!(!fake.is_held || is_refused, "{report}");
                    match end {
                        End::Done => {
                            assert!(!fake.takes_writes[0], "{report}");
                            assert!(fake.takes_writes[1] || fake.takes_writes[2], "{report}");
                        }
                        End::Undone => {
                            assert_eq!(fake.takes_writes, before.takes_writes, "{report}");
                            assert_eq!(fake.copies, before.copies, "{report}");
                        }
                        End::Stuck => assert!(report.contains("it is not known"), "{report}"),
                    }
                }
            }
        }
    }
}

/// The order after which there is no way back, and nobody knows whether it was done.
#[test]
fn a_promotion_in_doubt_is_left_as_it_is() {
    for is_done in [false, true] {
        let (settings, view) = cluster(false);
        let plan = switchover(&settings, &view, "b", Times::default(), None).unwrap();
        let promotion = plan
            .outline()
            .iter()
            .position(|step| step == "let b take writes");
        let mut fake = fake();
        let odd = (
            promotion.unwrap(),
            Answer::Unknown("lost".to_owned()),
            is_done,
        );
        let (end, report) = drive(plan, &mut fake, Some(&odd));
        assert_eq!(end, End::Stuck);
        assert_eq!(fake.takes_writes, [false, is_done, false], "{report:?}");
        assert!(!fake.is_held, "whoever takes writes gets them");
        assert!(
            report.contains(
                &"it is not known whether this was done: let b take writes: lost. Nothing was taken \
                  back, so that no two servers take writes: look at read_only on a and b"
                    .to_owned()
            ),
            "{report:?}"
        );
    }
}

#[test]
fn a_wait_that_ends_in_vain_is_undone() {
    let (settings, view) = cluster(false);
    let plan = switchover(&settings, &view, "b", Times::default(), None).unwrap();
    let mut fake = fake();
    let late = Answer::Done(Some(b"1".to_vec()));
    let (end, report) = drive(plan, &mut fake, Some(&(3, late, false)));
    assert_eq!(end, End::Undone);
    assert_eq!(
        report,
        [
            "done: hold writes to a until open transactions have ended",
            "done: set a read-only",
            "done: ask a for its last transaction",
            "failed: wait until b has it: it was not reached in time",
            "taken back: set a read-only",
            "taken back: hold writes to a until open transactions have ended",
        ]
    );
}

#[test]
fn without_an_account_the_former_primary_is_left_alone() {
    let (settings, view) = cluster(false);
    let plan = switchover(&settings, &view, "b", Times::default(), None).unwrap();
    let mut fake = fake();
    let (end, report) = drive(plan, &mut fake, None);
    assert_eq!((end, fake.copies), (End::Done, [false, false, true]));
    let left = "left to be done by hand: let a replicate from b: [mysql.failover] names no \
                replication_user to log in as";
    assert!(report.contains(&left.to_owned()), "{report:?}");
}

#[test]
fn a_failover_takes_the_one_that_lacks_nothing() {
    let (settings, view) = lost(false);
    assert_eq!(best_candidate(&settings, &view), Some(2));
    let plan = failover(&settings, &view, None, Times::default(), true).unwrap();
    let outline = plan.outline();
    let lease = "make sure that no other proxy does the same";
    assert_eq!(
        outline.iter().filter(|step| *step == lease).count(),
        2,
        "{outline:?}"
    );
    let mut fake = fake();
    fake.takes_writes[0] = false;
    let (end, report) = drive(plan, &mut fake, None);
    assert_eq!(end, End::Done, "{report:?}");
    assert_eq!(fake.takes_writes, [false, false, true]);
    let objections = failover(&settings, &view, Some("b"), Times::default(), false).unwrap_err();
    assert_eq!(
        objections,
        ["c has transactions that b lacks, and would be lost: \
          61616161-6161-6161-6161-616161616161:8-9"]
    );
}

#[test]
fn objections_are_told_all_at_once() {
    let (settings, view) = cluster(false);
    let no = |to: &str| switchover(&settings, &view, to, Times::default(), None).unwrap_err();
    assert_eq!(
        no("z"),
        ["there is no server \"z\" in the config (there are: a, b, c)"]
    );
    assert_eq!(no("a"), ["a is the primary already"]);
    let why = failover(&settings, &view, None, Times::default(), false).unwrap_err();
    assert_eq!(why, ["the primary a is there: use a switch-over"]);
    let (topology, _) = play(
        "a b:replica c",
        false,
        &[(
            "a=rw has:a1-9; b=ro <a sql. has:a1-9,b1 mute; c=ro <b",
            "1 a []",
        )],
    );
    let settings = super::super::testing::settings("a b:replica c");
    let no =
        |to: &str| switchover(&settings, topology.view(), to, Times::default(), None).unwrap_err();
    assert_eq!(
        no("b"),
        [
            "the config has role = \"replica\" for b",
            "the SQL thread of b is stopped",
            "b has no binary log, so that nobody could replicate from it (log_bin)",
            "b is not fit: its SQL thread is stopped",
            "b has transactions that a does not have: 62626262-6262-6262-6262-626262626262:1",
        ]
    );
    assert_eq!(
        no("c"),
        [
            "c has no GTIDs",
            "c does not replicate from a",
            "c is not fit: it replicates from b, of which: its SQL thread is stopped",
        ]
    );
}

#[test]
fn nothing_is_switched_while_two_take_writes() {
    let rows = [
        (
            "a=rw has:a1-9; b=ro <a has:a1-9; c=ro <a has:a1-9",
            "1 a [bc]",
        ),
        ("c=rw has:a1-9", "1 a ~c [b]"),
    ];
    let (topology, _) = play("a b c", false, &rows);
    let settings = settings("a b c");
    let why = switchover(&settings, topology.view(), "b", Times::default(), None).unwrap_err();
    assert_eq!(why, ["more than one server takes writes"]);
}

#[test]
fn a_failover_is_for_a_primary_that_is_lost() {
    let (mut topology, _): (Topology, _) = play(
        "a b",
        false,
        &[
            ("a=rw has:a1-9; b=ro <a has:a1-9", "1 a [b]"),
            ("a=ro has:a1-9", "1 ReadOnly [ab]"),
        ],
    );
    let settings = settings("a b");
    let why = failover(&settings, topology.view(), None, Times::default(), false).unwrap_err();
    assert_eq!(
        why,
        ["the primary is not lost: the primary a is read-only now, and no other takes writes"]
    );
    let now = Duration::from_secs(9);
    topology.observe(now, 0, Err(Trouble::Refused));
    topology.observe(now, 1, seen("b", "ro <a# has:a1-9", false));
    assert!(failover(&settings, topology.view(), None, Times::default(), false).is_ok());
}

#[test]
fn a_primary_has_to_be_lost_for_long_enough() {
    let (settings, lost) = lost(false);
    let (_, there) = cluster(false);
    let s = Duration::from_secs;
    let mut automatic = Automatic::new(s(10));
    assert_eq!(automatic.look(s(1), &settings, &there), Due::No);
    assert_eq!(automatic.look(s(2), &settings, &lost), Due::In(s(10)));
    assert_eq!(automatic.look(s(9), &settings, &lost), Due::In(s(3)));
    // It was back meanwhile.
    assert_eq!(automatic.look(s(10), &settings, &there), Due::No);
    assert_eq!(automatic.look(s(11), &settings, &lost), Due::In(s(10)));
    assert_eq!(
        automatic.look(s(21), &settings, &lost),
        Due::Now("c".into())
    );
    // Another one was, and is lost as well.
    let mut next = lost.clone();
    next.epoch += 1;
    assert_eq!(automatic.look(s(22), &settings, &next), Due::In(s(10)));
    let mut connected = lost.clone();
    connected.servers[1].channel.as_mut().unwrap().io = IoThread::Running;
    automatic.look(s(23), &settings, &connected);
    assert_eq!(
        automatic.look(s(34), &settings, &connected),
        Due::Nobody("b is connected to a: it is there, and this host does not reach it".to_owned())
    );
    let mut blind = lost;
    for server in &mut blind.servers {
        server.health = Health::Down(Trouble::TimedOut);
    }
    let due = automatic.look(s(50), &settings, &blind);
    assert_eq!(
        due,
        Due::Nobody("no server is reached at all: it may be this host".to_owned())
    );
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", account());
    assert!(!shown.contains("it's"), "{shown}");
    let (settings, view) = cluster(false);
    let plan = switchover(&settings, &view, "b", Times::default(), Some(&account())).unwrap();
    assert!(!format!("{plan:?}").contains("it''s"));
}

/// A primary, and a former one that has come back, read-only.
fn returned(is_mariadb: bool, has: &str) -> (Settings, View) {
    let (own, all) = match is_mariadb {
        true => (format!("has:0-1-{has}"), "has:0-1-9"),
        false => (format!("has:a1-{has}"), "has:a1-9"),
    };
    let row = format!("a=ro {own}; b=rw {all}; c=ro <b {all}");
    let (topology, _) = play("a b c", is_mariadb, &[(&row, "1 b [c]")]);
    (settings("a b:tls c"), topology.view().clone())
}

#[test]
fn a_former_primary_rejoins_from_where_its_log_ends() {
    for (is_mariadb, start) in [
        (
            true,
            "CHANGE MASTER '' TO MASTER_HOST = '10.0.0.2', MASTER_PORT = 3306, MASTER_USER = \
                'copy', MASTER_PASSWORD = '…', MASTER_CONNECT_RETRY = 10, MASTER_SSL = 1, \
                MASTER_USE_GTID = slave_pos",
        ),
        (false, "SOURCE_SSL = 1"),
    ] {
        let (settings, view) = returned(is_mariadb, "7");
        let plan = rejoin(&settings, &view, "a", Times::default(), Some(&account())).unwrap();
        let mut fake = Fake {
            takes_writes: [false, true, false],
            copies: [false, false, true],
            ..fake()
        };
        let (end, _) = drive(plan, &mut fake, None);
        assert_eq!(end, End::Done);
        assert_eq!(fake.copies, [true, false, true]);
        let said = fake.statements.join("\n");
        assert!(said.contains(start), "{said}");
        assert_eq!(
            said.contains("0: SET GLOBAL gtid_slave_pos = '0-1-9'"),
            is_mariadb,
            "{said}"
        );
    }
}

#[test]
fn one_that_has_more_does_not_rejoin_and_one_that_does_not_get_there_copies_from_nobody() {
    let (settings, view) = returned(false, "12");
    let account = account();
    let refused = rejoin(&settings, &view, "a", Times::default(), Some(&account)).unwrap_err();
    assert!(
        refused[0].starts_with("a has transactions that b lacks ("),
        "{refused:?}"
    );
    let refused = rejoin(&settings, &view, "b", Times::default(), None).unwrap_err();
    assert_eq!(
        refused,
        [
            "[mysql.failover] names no replication_user to log in as",
            "b is the primary"
        ]
    );
    let refused = rejoin(&settings, &view, "c", Times::default(), Some(&account)).unwrap_err();
    assert_eq!(refused, ["c replicates already, or is set up to"]);

    // It was refused by its source, say.
    let (settings, view) = returned(true, "9");
    let plan = rejoin(&settings, &view, "a", Times::default(), Some(&account)).unwrap();
    let mut fake = Fake {
        takes_writes: [false, true, false],
        copies: [false, false, true],
        ..fake()
    };
    let late = Answer::Done(Some(b"-1".to_vec()));
    let (end, report) = drive(plan, &mut fake, Some(&(4, late, false)));
    assert_eq!(end, End::Undone);
    assert_eq!(fake.copies, [false, false, true]);
    let last = report.last().unwrap();
    assert_eq!(last, "taken back: let a replicate from b");
}
