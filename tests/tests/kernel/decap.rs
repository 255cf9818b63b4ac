//! The decapsulation program: rows on both sides, and the same on mangled frames.

use std::collections::HashMap;

use lb_common::decap::{Disposition, Verdict, host::HostRules};
use lb_packets::{difference, hexdump, mutate, verify};
use lb_tests::decap::{Kernel, Left, Row, all, on_host};

/// Frames of the differential run.
const FRAMES: usize = 20_000;
const SEED: u64 = 6080;
/// What the verifier may walk through.
const MOST_VERIFIED: u32 = 60_000;

fn fault(row: &Row, left: &Left) -> Option<String> {
    let Row { name, frame, .. } = row;
    if left.verdict != row.verdict {
        let (found, expected) = (left.verdict, row.verdict);
        let dump = hexdump(frame);
        return Some(format!("{name}: {found:?} instead of {expected:?}\n{dump}"));
    }
    let difference = difference(row.out.as_ref()?, &left.frame)?;
    Some(format!("{name}: {difference}"))
}

fn report(faults: &[String], rows: usize) {
    println!("{rows} rows");
    let shown: Vec<&str> = faults.iter().take(10).map(String::as_str).collect();
    let count = faults.len();
    assert!(
        faults.is_empty(),
        "{count} of {rows}:\n{}",
        shown.join("\n")
    );
}

#[test]
fn rows_on_the_host() {
    let rows = all();
    let faults: Vec<String> = rows
        .iter()
        .filter_map(|row| fault(row, &on_host(&row.rules, &row.frame)))
        .collect();
    report(&faults, rows.len());
    // Every verdict is shown, but for one that only a driver can cause.
    for verdict in Verdict::ALL {
        let is_shown = rows.iter().any(|row| row.verdict == verdict);
        assert!(is_shown || verdict == Verdict::DropNoRoom, "{verdict:?}");
    }
}

#[test]
fn what_comes_out_is_sound() {
    for row in all() {
        if row.verdict == Verdict::Decapsulated && !row.name.contains("stay") {
            let out = row.out.unwrap();
            verify(&out).unwrap_or_else(|fault| panic!("{}: {fault}", row.name));
        }
    }
}

/// Kernels by their rules: loading takes time.
#[derive(Default)]
struct Kernels(HashMap<String, Kernel>);

impl Kernels {
    fn of(&mut self, rules: &HostRules) -> &mut Kernel {
        let mut vips: Vec<_> = rules.vips.iter().map(|vip| vip.octets()).collect();
        vips.sort_unstable();
        let key = format!("{:?} {vips:?} {:?}", rules.settings, rules.sources);
        self.0
            .entry(key)
            .or_insert_with(|| Kernel::load(rules).unwrap())
    }
}

#[test]
fn rows_in_the_kernel() {
    let rows = all();
    let mut kernels = Kernels::default();
    let mut faults = Vec::new();
    let mut played = 0;
    for row in &rows {
        // The kernel takes no test frame shorter than an Ethernet header.
        if row.frame.len() < 15 {
            continue;
        }
        played += 1;
        let left = kernels.of(&row.rules).run(&row.frame);
        let left = left.unwrap_or_else(|error| panic!("{}: {error:#}", row.name));
        faults.extend(fault(row, &left));
    }
    assert!(played * 20 > rows.len() * 19, "only {played}");
    report(&faults, played);
}

#[test]
fn host_and_kernel_agree_on_mangled_frames() {
    let rows = all();
    let mut kernels = Kernels::default();
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut counts = HashMap::new();
    for number in 0..FRAMES {
        let row = rng.choice(&rows).unwrap();
        let mut frame = row.frame.clone();
        let other = &rng.choice(&rows).unwrap().frame;
        mutate(&mut rng, &mut frame, other);
        if frame.len() < 15 || frame.len() > 3000 {
            continue;
        }
        let host = on_host(&row.rules, &frame);
        let kernel = kernels.of(&row.rules).run(&frame).unwrap();
        let context = || format!("frame {number} of {}\n{}", row.name, hexdump(&frame));
        assert_eq!(host.verdict, kernel.verdict, "{}", context());
        assert_eq!(host.frame, kernel.frame, "{}", context());
        let passes = host.verdict.disposition() == Disposition::Pass;
        if passes && host.verdict != Verdict::Decapsulated {
            assert_eq!(host.frame, frame, "{}", context());
        }
        *counts.entry(host.verdict.label()).or_insert(0) += 1;
    }
    println!("{counts:?}");
    for label in ["decapsulated", "pass_malformed", "pass_not_tunnelled"] {
        assert!(counts[label] > 500, "{counts:?}");
    }
}

#[test]
fn the_verifier_has_room_to_spare() {
    let rules = HostRules::for_vips([]).from_sources([]);
    let verified = Kernel::load(&rules).unwrap().verified().unwrap();
    println!("{verified} instructions verified (limit {MOST_VERIFIED})");
    assert!(verified < MOST_VERIFIED, "{verified}");
}
