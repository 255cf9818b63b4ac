//! What a session believes of servers' answers.

use super::{Answer, Before, Pins, Reason, Server, Session, Target, route, status};
use crate::sql::{Charset, Dialect, Family, classify};

const IDLE: u16 = status::AUTOCOMMIT;
const OPEN: u16 = status::AUTOCOMMIT | status::IN_TRANSACTION;

/// A session whose statements are all answered as the test says.
struct Told(Session);

impl Told {
    fn new() -> Self {
        let dialect = Dialect::new(Family::MySql, 90_704);
        Self(Session::new(dialect, Some(b"shop")))
    }

    fn say(&mut self, sql: &str, answer: &Answer<'_>) -> (Target, Reason, Before) {
        let statement = classify(sql.as_bytes(), self.0.dialect());
        let decision = route(&self.0, sql.as_bytes(), &statement, 2, &());
        self.0.after(sql.as_bytes(), &statement, &decision, answer);
        (decision.target, decision.reason, decision.before)
    }

    fn done(&mut self, sql: &str, status: u16) -> (Target, Reason, Before) {
        let answer = Answer {
            succeeded: true,
            status: Some(status),
            ..Answer::default()
        };
        self.say(sql, &answer)
    }

    fn reason(&self, sql: &str) -> Reason {
        let statement = classify(sql.as_bytes(), self.0.dialect());
        route(&self.0, sql.as_bytes(), &statement, 2, &()).reason
    }
}

fn ok() -> Answer<'static> {
    Answer {
        succeeded: true,
        status: Some(IDLE),
        ..Answer::default()
    }
}

#[test]
fn the_server_knows_of_transactions() {
    let mut told = Told::new();
    // A procedure that began one.
    let open = Answer {
        status: Some(OPEN),
        state_changed: Some(false),
        ..ok()
    };
    told.say("CALL p()", &open);
    assert_eq!(told.0.transaction(), Some(Server::Primary));
    assert_eq!(told.reason("SELECT 1"), Reason::InTransaction);
    // An error says nothing; a statement that ended it does.
    told.say("SELECT 1", &Answer::default());
    assert_eq!(told.0.transaction(), Some(Server::Primary));
    told.done("TRUNCATE t", IDLE);
    assert_eq!(told.0.transaction(), None);
    told.done("UPDATE t SET a=1", 0);
    assert_eq!(
        told.reason("/* lb:replica */ SELECT 1"),
        Reason::AutocommitOff
    );
    assert!(told.0.holds_primary());
}

#[test]
fn a_reading_transaction_leaves_the_replica_when_it_has_to() {
    let mut told = Told::new();
    let begin = told.done("START TRANSACTION READ ONLY", OPEN);
    assert_eq!(begin.0, Target::Replica);
    assert!(told.0.holds_replica());
    let write = told.done("INSERT INTO t VALUES (1)", OPEN);
    assert_eq!(
        write,
        (Target::Primary, Reason::Write, Before::MoveTransaction)
    );
    assert_eq!(told.0.transaction(), Some(Server::Primary));
    let mut told = Told::new();
    told.done("START TRANSACTION READ ONLY", OPEN);
    let begin = told.done("BEGIN", OPEN);
    let expected = (
        Target::Primary,
        Reason::Begin,
        Before::EndReplicaTransaction,
    );
    assert_eq!(begin, expected);
}

#[test]
fn set_transaction_waits_for_its_transaction() {
    let mut told = Told::new();
    told.done("SET TRANSACTION READ ONLY", IDLE);
    assert_eq!(
        told.0.next_transaction(),
        Some(&b"SET TRANSACTION READ ONLY"[..])
    );
    let begin = told.done("BEGIN", OPEN);
    let expected = (
        Target::Replica,
        Reason::ReadOnlyTransaction,
        Before::SetTransaction,
    );
    assert_eq!(begin, expected);
    assert_eq!(told.0.next_transaction(), None);
}

#[test]
fn settings_are_kept_once_and_in_order() {
    let mut told = Told::new();
    for sql in [
        "SET time_zone = '+00:00'",
        "SET @a = 1, @`B c` = 'x'",
        "SET sql_log_bin = 0, SESSION Time_Zone = SYSTEM",
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "SET autocommit = 1",
    ] {
        told.done(sql, IDLE);
    }
    let settings = told.0.remembered().settings();
    let texts: Vec<_> = settings
        .iter()
        .map(|setting| {
            let text = String::from_utf8_lossy(&setting.statement).into_owned();
            (text, setting.for_replicas)
        })
        .collect();
    let kept = |text: &str| (text.to_owned(), true);
    let expected = [
        kept("SET @`a` = 1"),
        ("SET SESSION `sql_log_bin` = 0".to_owned(), false),
        kept("SET SESSION `Time_Zone` = SYSTEM"),
        kept("SET NAMES utf8mb4 COLLATE utf8mb4_bin"),
    ];
    assert_eq!(texts, expected);
    // The string was one of another character set.
    assert!(told.0.pins().has(Pins::USER_VARIABLE));
    assert_eq!(told.0.remembered().number(), settings[3].number);
}

#[test]
fn a_told_value_is_carried_where_the_text_has_none() {
    let mut told = Told::new();
    let variables = [(&b"time_zone"[..], &b"+01:00"[..]), (b"statement_id", b"5")];
    let answer = Answer {
        variables: &variables,
        ..ok()
    };
    told.say("SET time_zone = @old", &answer);
    assert!(told.0.pins().is_empty());
    let settings = told.0.remembered().settings();
    assert_eq!(settings.len(), 1);
    assert_eq!(
        settings[0].statement,
        b"SET SESSION `time_zone` = _utf8mb4 0x2b30313a3030"
    );
    told.say("SET time_zone = @old", &ok());
    assert!(told.0.pins().has(Pins::SESSION_VARIABLE));
    told.say("SET time_zone = 'SYSTEM'", &ok());
    assert!(told.0.pins().is_empty());
}

#[test]
fn the_dialect_follows() {
    let mut told = Told::new();
    let variables = [(&b"sql_mode"[..], &b"ANSI_QUOTES"[..])];
    let answer = Answer {
        variables: &variables,
        ..ok()
    };
    told.say("SET sql_mode = CONCAT('a', 'b')", &answer);
    assert!(told.0.dialect().mode.ansi_quotes);
    told.say("SET NAMES gbk", &ok());
    assert_eq!(told.0.dialect().charset, Charset::Unsafe);
    told.say("SET character_set_client = 'utf8mb4'", &ok());
    assert_eq!(told.0.dialect().charset, Charset::Utf8);
    told.0.reset();
    assert!(!told.0.dialect().mode.ansi_quotes);
    assert_eq!(told.0.schema(), Some(&b"shop"[..]));
}

#[test]
fn what_nobody_tells_binds() {
    let mut told = Told::new();
    told.say("CALL p()", &ok());
    assert!(told.0.pins().has(Pins::UNKNOWN_STATE));
    told.0.reset();
    let quiet = Answer {
        state_changed: Some(false),
        ..ok()
    };
    told.say("CALL p()", &quiet);
    assert!(told.0.pins().is_empty());
    assert!(told.0.holds_primary());
    // A trigger that set a variable.
    let changed = Answer {
        state_changed: Some(true),
        ..ok()
    };
    told.say("INSERT INTO t VALUES (1)", &changed);
    assert!(told.0.pins().has(Pins::UNKNOWN_STATE));
    told.0.reset();
    assert!(told.0.pins().is_empty() && !told.0.holds_primary());
}

#[test]
fn functions_that_read_bind_nothing() {
    let mut told = Told::new();
    let answer = Answer {
        state_changed: Some(true),
        calls_only_read: true,
        ..ok()
    };
    told.say("SELECT f()", &answer);
    assert!(told.0.pins().is_empty() && !told.0.holds_primary());
    told.say(
        "SELECT f()",
        &Answer {
            calls_only_read: false,
            ..answer
        },
    );
    assert!(told.0.pins().has(Pins::UNKNOWN_STATE) && told.0.holds_primary());
}

#[test]
fn failures_leave_no_pins_but_where_something_may_have_been_done() {
    let mut told = Told::new();
    let failed = Answer::default();
    for sql in [
        "CREATE TEMPORARY TABLE x (a INT)",
        "LOCK TABLES t READ",
        "SET @a = NOW()",
        "HANDLER t OPEN",
        "XA START 'a'",
        "FOO",
    ] {
        told.say(sql, &failed);
        assert!(told.0.pins().is_empty(), "{sql}");
    }
    told.say("CREATE TEMPORARY TABLE x (a INT); FOO", &failed);
    assert!(told.0.pins().has(Pins::UNKNOWN_STATE));
    told.0.reset();
    told.say("SELECT GET_LOCK('a', 1), f()", &failed);
    assert!(told.0.pins().has(Pins::USER_LOCK));
}

#[test]
fn long_lists_are_not_followed() {
    for sql in [
        format!("SET @a = 1{}", ", @a = 1".repeat(300)),
        format!("SELECT 1{}", "; SELECT 1".repeat(300)),
    ] {
        let mut told = Told::new();
        told.done(&sql, IDLE);
        assert!(told.0.pins().has(Pins::UNKNOWN_STATE));
        assert!(told.0.dialect().mode.foreign);
    }
}

/// What a hostile client may make the proxy do for each byte that it sends is bounded.
#[test]
fn a_session_takes_linear_time() {
    for piece in [
        ";",
        "SET a=1;",
        "SET @a=1,",
        "EXECUTE s;",
        "SELECT GET_LOCK(1);",
        "f(),",
    ] {
        let mut told = Told::new();
        told.done("PREPARE s FROM 'SELECT 1'", IDLE);
        let sql = piece.repeat(400_000 / piece.len());
        let variables = [(&b"a"[..], &b"1"[..]); 500];
        let answer = Answer {
            variables: &variables,
            ..ok()
        };
        let began = std::time::Instant::now();
        told.say(&sql, &answer);
        told.say(&format!("SET {sql}"), &answer);
        assert!(began.elapsed().as_secs() < 5, "{piece}");
    }
}

#[test]
fn too_much_to_carry_binds() {
    let mut told = Told::new();
    for number in 0..200 {
        told.done(&format!("SET @v{number} = 1"), IDLE);
    }
    assert!(told.0.pins().has(Pins::USER_VARIABLE));
    assert!(told.0.remembered().settings().len() <= 128);
    let mut told = Told::new();
    told.done(&format!("SET @a = '{}'", "x".repeat(20_000)), IDLE);
    assert!(told.0.pins().has(Pins::USER_VARIABLE));
    let mut told = Told::new();
    for number in 0..100 {
        told.done(&format!("CREATE TEMPORARY TABLE t{number} (a INT)"), IDLE);
    }
    for number in 0..100 {
        told.done(&format!("DROP TABLE t{number}"), IDLE);
    }
    assert!(told.0.pins().has(Pins::TEMPORARY_TABLE));
}

#[test]
fn what_any_server_may_run_is_replayed() {
    let session = Session::new(Dialect::new(Family::MySql, 90_000), Some(b"shop"));
    let replays = |sql: &str| {
        let statement = classify(sql.as_bytes(), session.dialect());
        session.replays(sql.as_bytes(), &statement)
    };
    for sql in [
        "SET NAMES utf8mb4",
        "SET CHARACTER SET latin1",
        "SET autocommit=1",
        "SET @@session.autocommit = ON, sql_mode = 'ANSI'",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET @x = 1",
        "USE other",
    ] {
        assert!(replays(sql), "{sql}");
    }
    for sql in [
        "SET autocommit=0",
        "SET autocommit = @x",
        "SET sql_mode = 'ANSI', autocommit = OFF",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET @@transaction_isolation = 'SERIALIZABLE', sql_mode = ''",
        "SET @@transaction_read_only = 1",
        "SET GLOBAL a = 1, SESSION b = 2",
        "SET GLOBAL TRANSACTION READ ONLY",
        "SET @x = (SELECT MAX(a) FROM t)",
        "SET sql_mode = CONCAT(@@sql_mode, ',ANSI')",
        "SELECT 1",
        "INSERT INTO t VALUES (1)",
    ] {
        assert!(!replays(sql), "{sql}");
    }
}
