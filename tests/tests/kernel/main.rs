//! Tests that run the real object in this kernel by `BPF_PROG_TEST_RUN`.

mod loads;
