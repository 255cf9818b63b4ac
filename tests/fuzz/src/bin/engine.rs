//! The target for libFuzzer. Built and started by `lb-fuzz`, which knows the flags.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(what) = lb_fuzz::run(input) {
        panic!("{what}");
    }
});
