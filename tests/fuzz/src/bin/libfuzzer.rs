//! The targets for libFuzzer. Built and started by `lb-fuzz`, which knows the flags, and says by
//! the environment which of them to run.
#![no_main]

use std::sync::LazyLock;

use lb_fuzz::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var(lb_fuzz::NAME_OF_TARGET).unwrap_or_default();
    Target::named(&name).expect("a target is named by the environment")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(what) = TARGET.run(input) {
        panic!("{what}");
    }
});
