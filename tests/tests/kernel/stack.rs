//! The stacks fit on every kernel that is supported.
//!
//! A chain of calls may use 512 bytes. Linux 6.1 rounds the stack of each function up to 32 bytes and
//! 6.12 to 16, so a program that this kernel accepts may be refused by an older one.

use std::collections::HashMap;

use lb_common::abi::{STEER_FRAGS_PROGRAM, STEER_PROGRAM};
use lb_tests::kernel::STEER;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

const ENTRIES: [&str; 2] = [STEER_PROGRAM, STEER_FRAGS_PROGRAM];
const LIMIT: u32 = 512;
const ROUNDED_TO: u32 = 32;
/// What the compiler adds, and stages call.
const BUILT_IN: [&str; 5] = ["memcpy", "memmove", "memset", "bcmp", "memcmp"];

const MOVE: u8 = 0xbf;
const ADD_IMMEDIATE: u8 = 0x07;
const FRAME_POINTER: u8 = 10;

/// The deepest byte of the stack that each function touches or points to.
fn stacks(object: &[u8]) -> HashMap<String, u32> {
    let object = object::File::parse(object).unwrap();
    let functions = object
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    functions
        .map(|function| {
            let section = object
                .section_by_index(function.section_index().unwrap())
                .unwrap();
            let code = section
                .data_range(function.address(), function.size())
                .unwrap()
                .unwrap();
            (function.name().unwrap().to_owned(), deepest(code))
        })
        .collect()
}

fn deepest(code: &[u8]) -> u32 {
    let mut deepest = 0;
    // The register that the instruction before copied the frame pointer to.
    let mut copy = None;
    let mut instructions = code.chunks_exact(8);
    while let Some(instruction) = instructions.next() {
        let (destination, source) = (instruction[1] & 15, instruction[1] >> 4);
        let offset = i16::from_le_bytes([instruction[2], instruction[3]]);
        let immediate = i32::from_le_bytes(instruction[4..].try_into().unwrap());
        let depth = match instruction[0] {
            0x18 => {
                instructions.next();
                0
            }
            ADD_IMMEDIATE if copy == Some(destination) => -immediate,
            // Loads take the address from the source, stores from the destination.
            code if code & 7 == 1 && source == FRAME_POINTER => -i32::from(offset),
            code if matches!(code & 7, 2 | 3) && destination == FRAME_POINTER => -i32::from(offset),
            _ => 0,
        };
        copy = (instruction[0] == MOVE && source == FRAME_POINTER).then_some(destination);
        deepest = deepest.max(depth);
    }
    deepest.unsigned_abs()
}

fn rounded(bytes: u32) -> u32 {
    bytes.max(1).next_multiple_of(ROUNDED_TO)
}

#[test]
fn every_chain_of_calls_fits_on_old_kernels() {
    let stacks = stacks(STEER);
    let most = |is_wanted: &dyn Fn(&str) -> bool| {
        let wanted = stacks.iter().filter(|(name, _)| is_wanted(name));
        wanted.map(|(_, bytes)| rounded(*bytes)).max().unwrap()
    };
    let entry = most(&|name| ENTRIES.contains(&name));
    let built_in = most(&|name| BUILT_IN.contains(&name));
    let stage = most(&|name| !ENTRIES.contains(&name) && !BUILT_IN.contains(&name));
    println!("{stacks:?}");
    assert!(stage > 100, "the stages use their stack: {stacks:?}");
    assert!(
        entry + stage + built_in <= LIMIT,
        "{entry} + {stage} + {built_in} is more than {LIMIT}: {stacks:?}"
    );
}
