//! How much room the program leaves: the verifier refuses one that it has to walk through for more
//! than a million instructions, and a change that doubles the figure should be seen.

use aya::programs::ProgramInfo;
use lb_common::{abi::STEER_PROGRAM, host::Fixture};
use lb_tests::kernel::Kernel;

/// What the verifier may walk through; the kernel's own limit is a million.
const MAX_VERIFIED: u32 = 400_000;
/// What the program may have; beyond 32,767 the jumps of `-C target-cpu=v3` do not reach.
const MAX_INSTRUCTIONS: u32 = 26_000;

#[test]
fn the_verifier_has_room_to_spare() {
    let mut kernel = Kernel::load(&Fixture::default().tables).unwrap();
    let info: ProgramInfo = kernel.program(STEER_PROGRAM).unwrap().info().unwrap();
    let verified = info.verified_instruction_count().unwrap();
    let instructions = info.size_translated().unwrap() / 8;
    println!(
        "{verified} instructions verified (limit {MAX_VERIFIED}), {instructions} in the program \
         (limit {MAX_INSTRUCTIONS}), {} bytes of machine code",
        info.size_jitted()
    );
    assert!(verified > 0 && verified < MAX_VERIFIED, "{verified}");
    assert!(
        instructions > 0 && instructions < MAX_INSTRUCTIONS,
        "{instructions}"
    );
}
