//! What the program costs to load, with and without the features that a config may use: the
//! verifier refuses one that it has to walk through for more than a million instructions, and a
//! change that doubles a figure should be seen.

use aya::programs::ProgramInfo;
use lb_common::{abi::features, host::Fixture};
use lb_tests::kernel::Kernel;

/// A config: its name, its features, what the verifier may walk through, and what may be left of
/// the program.
const CONFIGS: [(&str, u32, u32, u32); 5] = [
    (
        "nat of IPv4",
        features::IPV4 | features::NAT,
        250_000,
        20_000,
    ),
    (
        "nat",
        features::BOTH_IP_VERSIONS | features::NAT,
        500_000,
        38_000,
    ),
    (
        "direct return and tunnels",
        features::BOTH_IP_VERSIONS | features::TUNNEL | features::HASH,
        400_000,
        26_000,
    ),
    (
        "everything",
        features::ALL & !features::MULTI_BUFFER,
        760_000,
        64_000,
    ),
    (
        "everything in several buffers",
        features::ALL,
        760_000,
        64_000,
    ),
];

#[test]
fn the_verifier_has_room_to_spare() {
    let mut sizes = Vec::new();
    for (name, features, most_verified, most_instructions) in CONFIGS {
        let mut fixture = Fixture::default();
        fixture.tables.settings.features = features;
        let mut kernel = Kernel::load(&fixture.tables).unwrap();
        let info: ProgramInfo = kernel.steer().unwrap().info().unwrap();
        let verified = info.verified_instruction_count().unwrap();
        let instructions = info.size_translated().unwrap() / 8;
        println!(
            "{name}: {verified} instructions verified (limit {most_verified}), {instructions} in \
             the program (limit {most_instructions}), {} bytes of machine code",
            info.size_jitted()
        );
        assert!(
            verified > 0 && verified < most_verified,
            "{name}: {verified}"
        );
        assert!(
            instructions > 0 && instructions < most_instructions,
            "{name}: {instructions}"
        );
        sizes.push(instructions);
    }
    assert!(
        sizes[0] < sizes[1] && sizes[1] < sizes[3] && sizes[2] < sizes[3],
        "what is not used is taken out: {sizes:?}"
    );
}
