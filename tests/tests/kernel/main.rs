//! Tests that run the real object in this kernel by `BPF_PROG_TEST_RUN`.

mod atomics;
mod differential;
mod loads;
mod rows;
mod size;
