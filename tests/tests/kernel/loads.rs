//! The verifier accepts the program.

use lb_common::host::Fixture;
use lb_tests::kernel::Kernel;

#[test]
fn the_verifier_accepts_the_program() {
    let mut kernel = Kernel::load(&Fixture::default().tables).unwrap_or_else(|e| panic!("{e:#}"));
    let ran = kernel.run(&[0; 64]).unwrap();
    assert_eq!(ran.action, 2, "XDP_PASS");
}
