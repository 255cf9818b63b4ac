//! `mss_clamp`: SYN and SYN-ACK announce no larger segments than the way has room for.

use lb_packets::{ACK, Packet, SYN};

use super::{Row, world::World};

pub(super) fn rows() -> Vec<Row> {
    World::tcp_nat()
        .iter()
        .flat_map(|world| [lowered(world), left_alone(world), later(world)])
        .collect()
}

const MOST: u16 = 1220;

fn row(world: &World, description: &str) -> Row {
    world.row(description).given(|fixture| {
        for backend in &mut fixture.tables.backends {
            backend.mss = MOST;
        }
    })
}

fn with_options(packet: &Packet, options: &[u8]) -> Packet {
    Packet {
        tcp_options: options.to_vec(),
        ..packet.clone()
    }
}

/// TCP options with that size at an even, an odd and a late place.
fn options(size: u16) -> [Vec<u8>; 4] {
    let [high, low] = size.to_be_bytes();
    [
        vec![2, 4, high, low],
        vec![1, 2, 4, high, low, 1, 1, 0],
        vec![1, 1, 1, 2, 4, high, low, 1],
        vec![
            8, 10, 0, 1, 2, 3, 4, 5, 6, 7, 4, 2, 1, 3, 3, 7, 2, 4, high, low,
        ],
    ]
}

fn lowered(world: &World) -> Row {
    let mut row = row(world, "a larger size is lowered, wherever it stands");
    let mut number = 0;
    for size in [u16::MAX, 8960, 1460, MOST + 1] {
        for (before, after) in options(size).iter().zip(&options(MOST)) {
            let client = world.client(number + 1);
            let backend = number as usize % 3;
            number += 1;
            let syn = world.from_client(client, SYN);
            let leaves = world.to_backend(&with_options(&syn, after), backend);
            row = row.send(with_options(&syn, before), super::Expect::steered(leaves));
            let answer = world.from_backend(backend, client, SYN | ACK);
            let leaves = world.to_client(&with_options(&answer, after));
            row = row.send(
                with_options(&answer, before),
                super::Expect::replied(leaves),
            );
        }
    }
    row
}

fn left_alone(world: &World) -> Row {
    let mut row = row(
        world,
        "a size that fits, none at all, and options that make no sense stay as they are",
    );
    let broken: [&[u8]; 6] = [
        &[1, 1, 1, 1],
        &[2, 3, 0xff, 0xff],
        &[2, 5, 0xff, 0xff, 0xff, 0, 0, 0],
        &[0, 2, 4, 0xff, 0xff, 0, 0, 0],
        &[1, 1, 2, 4],
        // Where more options than are looked at stand in front of it.
        &[1, 1, 1, 1, 1, 1, 2, 4, 0xff, 0xff, 0, 0],
    ];
    let fitting = options(MOST).into_iter().chain(options(536));
    let all: Vec<Vec<u8>> = fitting
        .chain(broken.iter().map(|options| options.to_vec()))
        .collect();
    for (number, options) in (0..).zip(all) {
        let client = world.client(number + 1);
        let syn = with_options(&world.from_client(client, SYN), &options);
        row = world.forward(row, &syn, number as usize % 3);
    }
    row
}

/// In a later packet those bytes are no option that anybody reads.
fn later(world: &World) -> Row {
    let client = world.client(1);
    let row = row(world, "packets without SYN stay as they are");
    let row = world.establish(row, client, 0);
    let [options, ..] = options(1460);
    let packet = with_options(&world.from_client(client, ACK), &options);
    let row = world.forward(row, &packet, 0);
    let reply = with_options(&world.from_backend(0, client, ACK), &options);
    world.reply(row, &reply)
}
