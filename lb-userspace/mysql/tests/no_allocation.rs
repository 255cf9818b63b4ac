//! To classify a statement, to decide where it goes, and to note that it was answered takes no
//! memory from the heap, unless it changes the session.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use lb_mysql::digest::{Digests, Seen};
use lb_mysql::route::{Answer, Reason, Session, route, status};
use lb_mysql::sql::{Dialect, Family, classify};

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator as it came; the counter is a constant
// cell of the thread, which takes no memory itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counting a statement whose kind was seen before takes none either.
#[test]
fn a_known_digest_takes_nothing_from_the_heap() {
    let dialect = Dialect::new(Family::MySql, 90_704);
    let mut digests = Digests::new(10);
    let seen = Seen {
        is_replica: true,
        reason: Reason::Read,
        took: Duration::from_micros(5),
        failed: false,
    };
    let statements = [
        "SELECT c FROM sbtest1 WHERE id=4711",
        "INSERT INTO t (a, b) VALUES (1, 'it''s'), (2, 'x')",
        "SELECT 'never ends",
    ];
    for sql in statements {
        digests.note(sql.as_bytes(), dialect, &seen);
    }
    let before = TAKEN.with(Cell::get);
    for sql in statements {
        digests.note(sql.as_bytes(), dialect, &seen);
    }
    assert_eq!(TAKEN.with(Cell::get), before);
    digests.note(b"SELECT another FROM t", dialect, &seen);
    assert!(TAKEN.with(Cell::get) > before, "the counter counts");
}

#[test]
fn nothing_is_taken_from_the_heap() {
    let mut session = Session::new(Dialect::new(Family::MySql, 90_704), Some(b"shop"));
    let statements = [
        "SELECT c FROM sbtest1 WHERE id=4711",
        "SELECT o.id, MAX(i.price), f(1) FROM `orders` AS o JOIN items i USING (id) /* x */ LIMIT 5",
        "INSERT INTO t (a, b) VALUES (1, 'it''s')",
        "SELECT * FROM t FOR UPDATE",
        "SELECT 'never ends",
        "BEGIN",
        "COMMIT",
        "SHOW WARNINGS",
    ];
    let answer = Answer {
        succeeded: true,
        status: Some(status::AUTOCOMMIT),
        state_changed: Some(false),
        ..Answer::default()
    };
    for sql in statements {
        let before = TAKEN.with(Cell::get);
        let statement = classify(sql.as_bytes(), session.dialect());
        let decision = route(&session, sql.as_bytes(), &statement, 2, &());
        session.after(sql.as_bytes(), &statement, &decision, &answer);
        assert_eq!(TAKEN.with(Cell::get), before, "{sql}");
    }
    let before = TAKEN.with(Cell::get);
    session.set_schema(b"other");
    assert!(TAKEN.with(Cell::get) > before, "the counter counts");
}
