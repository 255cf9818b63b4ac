//! A program that only tells what it would do: it says what then happens, in every packet row, and
//! changes nothing.

use lb_common::{abi::features, host::Fixture};
use lb_tests::{
    kernel::Kernel,
    rows::{BEHAVIOURS, of, run},
};

#[test]
fn it_tells_what_then_happens_and_changes_nothing() {
    let rows: Vec<_> = BEHAVIOURS.iter().flat_map(|(name, _)| of(name)).collect();
    let failures = run::watched(&rows).unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn watching_programs_load_with_every_feature() {
    for watching in [features::DRY_RUN, features::CAPTURE] {
        let mut fixture = Fixture::default();
        fixture.tables.settings.features = features::ALL | watching;
        let mut kernel = Kernel::load(&fixture.tables).unwrap_or_else(|e| panic!("{e:#}"));
        let program = kernel.steer().unwrap();
        let verified = program.info().unwrap().verified_instruction_count();
        println!("{watching:#x}: {verified:?} instructions verified");
    }
}
