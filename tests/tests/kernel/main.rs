//! Tests that run the real object in this kernel by `BPF_PROG_TEST_RUN`.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by a panic, which says where"
)]

mod atomics;
mod decap;
mod differential;
mod dry_run;
mod intercept;
mod loads;
mod rows;
mod size;
mod stack;
