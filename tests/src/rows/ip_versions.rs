//! An IP version that no service uses is left to the kernel as it is; the program for the other
//! has no code for it.

use lb_common::{abi::features, verdict::Verdict};
use lb_packets::{ACK, SYN};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    World::all_nat()
        .into_iter()
        .chain(World::all_dsr())
        .flat_map(|world| [left_alone(&world), enough(&world)])
        .collect()
}

const fn version(family: Family) -> u32 {
    match family {
        Family::V4 => features::IPV4,
        Family::V6 => features::IPV6,
    }
}

fn left_alone(world: &World) -> Row {
    let own = version(world.family);
    let packet = world.from_client(world.client(1), SYN);
    let passed = || Expect::passed(Verdict::PassNotOurs);
    world
        .row("left alone where it is not used")
        .given(move |fixture| fixture.tables.settings.features &= !own)
        .send(packet.clone(), passed())
        // Nobody looks into it.
        .send(packet.hop_limit(0), passed())
}

fn enough(world: &World) -> Row {
    let own = version(world.family);
    let client = world.client(1);
    let row = world
        .row("steered where the other is not used")
        .given(move |fixture| {
            let features = &mut fixture.tables.settings.features;
            *features = *features & !features::BOTH_IP_VERSIONS | own;
        });
    let row = world.establish(row, client, 0);
    world.forward(row, &world.from_client(client, ACK), 0)
}
