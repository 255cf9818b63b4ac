//! The object holds the atomic instructions that return a value.
//!
//! LLVM 22 turns a relaxed fetch-and-add into one that returns nothing, and goes on with a stale
//! register as if it were the result: round robin would then give random backends. No test of
//! behaviour on one CPU shows that reliably, so this one reads the instructions.

use lb_tests::kernel::{DECAP, LAB, STEER};
use object::{Object, ObjectSection};

/// `BPF_STX | BPF_ATOMIC` for 32 and 64 bits (`linux/bpf.h`).
const ATOMIC: [u8; 2] = [0xc3, 0xdb];
/// The flag in the immediate that asks for the old value.
const FETCH: i32 = 0x01;
/// An addition.
const ADD: i32 = 0x00;
/// `BPF_XCHG`, which always fetches.
const EXCHANGE: i32 = 0xe0 | FETCH;
/// `BPF_CMPXCHG`, which always fetches.
const COMPARE_EXCHANGE: i32 = 0xf0 | FETCH;

#[derive(Debug, PartialEq, Eq)]
struct Atomic {
    is_64_bit: bool,
    operation: i32,
}

/// The atomic instructions of an object's programs.
fn atomics(object: &[u8]) -> Vec<Atomic> {
    let object = object::File::parse(object).unwrap();
    let mut found = Vec::new();
    for section in object.sections() {
        if section.kind() != object::SectionKind::Text {
            continue;
        }
        let mut instructions = section.data().unwrap().chunks_exact(8);
        while let Some(instruction) = instructions.next() {
            let opcode = instruction[0];
            if ATOMIC.contains(&opcode) {
                found.push(Atomic {
                    is_64_bit: opcode == ATOMIC[1],
                    operation: i32::from_le_bytes(instruction[4..8].try_into().unwrap()),
                });
            }
            // A load of 64 bits takes two slots, the second of which is data.
            if opcode == 0x18 {
                instructions.next();
            }
        }
    }
    found
}

fn count(found: &[Atomic], is_64_bit: bool, operation: i32) -> usize {
    let wanted = Atomic {
        is_64_bit,
        operation,
    };
    found.iter().filter(|atomic| **atomic == wanted).count()
}

#[test]
fn the_cursor_is_taken_by_a_fetching_add() {
    assert!(count(&atomics(STEER), true, ADD | FETCH) > 0);
}

#[test]
fn no_atomic_returns_nothing() {
    for object in [STEER, DECAP, LAB] {
        let found = atomics(object);
        let blind: Vec<_> = found
            .iter()
            .filter(|atomic| atomic.operation & FETCH == 0)
            .collect();
        assert!(blind.is_empty(), "{blind:?}");
    }
}

#[test]
fn places_are_claimed_and_published_atomically() {
    let found = atomics(STEER);
    println!("{found:?}");
    assert!(count(&found, false, COMPARE_EXCHANGE) > 0);
    // The word of a flow that makes it match.
    assert!(count(&found, true, EXCHANGE) > 0);
}

/// The reader itself must be able to find the wrong form.
#[test]
fn a_blind_add_would_be_seen() {
    let mut object = STEER.to_vec();
    let position = object
        .windows(8)
        .position(|bytes| bytes[0] == ATOMIC[1] && bytes[4..] == (ADD | FETCH).to_le_bytes())
        .unwrap();
    object[position + 4] = 0;
    let found = atomics(&object);
    assert_eq!(count(&found, true, ADD), 1);
}
