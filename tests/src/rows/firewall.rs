//! The firewall: whose packets are dropped before anything else, and whose are not.

use lb_common::{
    abi::{Protocol, features},
    firewall::{Action, Prefix},
    host::HostTables,
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, SYN};

use super::{
    Expect, Row,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat() {
        rows.extend([
            a_denied_source_begins_nothing(&world),
            it_ends_what_is_established(&world),
            the_longest_match_decides(&world),
            an_allowed_one_within_a_denied_prefix_passes(&world),
            another_generation_holds_at_once(&world),
            a_dry_run_only_counts(&world),
            replies_come_back(&world),
            tags_hide_nobody(&world),
        ]);
    }
    for family in [Family::V4, Family::V6] {
        rows.extend([
            what_is_for_the_host_is_dropped_too(family),
            every_length_of_prefix(family),
            the_other_ip_version_is_looked_at(family),
            everybody_of_the_other_ip_version(family),
        ]);
    }
    rows
}

/// A prefix of that length around a client.
pub(super) fn around(world: &World, number: u32, length: u8) -> Prefix {
    Prefix::new(world.client(number).ip(), length)
}

fn set(tables: &mut HostTables, generation: u8, prefixes: &[(Prefix, Action)]) {
    let seed = tables.settings.hash_seed;
    tables.firewall.set(seed, generation, prefixes);
}

/// A whole address.
pub(super) fn whole(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

fn denied() -> Expect {
    Expect::dropped(Verdict::DropDenied)
}

fn a_denied_source_begins_nothing(world: &World) -> Row {
    let (evil, good) = (world.client(1), world.client(0x1_0001));
    let deny = around(world, 1, whole(world.family) - 8);
    let row = world
        .row("a denied source begins nothing, and others do")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(deny, Action::Deny)]));
    let row = row
        .send(world.from_client(evil, SYN), denied())
        .send(world.from_client(evil, ACK), denied());
    world.open(row, good, 0)
}

fn it_ends_what_is_established(world: &World) -> Row {
    let client = world.client(1);
    let deny = around(world, 1, whole(world.family));
    let row = world.establish(
        world.row("an established flow of a source that is denied"),
        client,
        0,
    );
    row.change(move |tables| set(tables, 1, &[(deny, Action::Deny)]))
        .send(world.from_client(client, ACK), denied())
}

fn the_longest_match_decides(world: &World) -> Row {
    let whole = whole(world.family);
    let prefixes = [
        (around(world, 1, whole - 16), Action::Allow),
        (around(world, 1, whole - 8), Action::Deny),
        (around(world, 1, whole), Action::Allow),
        (around(world, 2, whole), Action::Deny),
    ];
    let row = world
        .row("the longest prefix decides")
        .given(move |fixture| set(&mut fixture.tables, 1, &prefixes));
    let row = world.open(row, world.client(1), 0);
    row.send(world.from_client(world.client(2), SYN), denied())
        .send(world.from_client(world.client(3), SYN), denied())
}

fn an_allowed_one_within_a_denied_prefix_passes(world: &World) -> Row {
    let everybody = Prefix::new(world.client(1).ip(), 0);
    let prefixes = [
        (everybody, Action::Deny),
        (around(world, 1, whole(world.family) - 1), Action::Allow),
        (
            Prefix::new(world.backends[0].ip(), whole(world.family)),
            Action::Allow,
        ),
    ];
    let row = world
        .row("everybody is denied but for some")
        .given(move |fixture| set(&mut fixture.tables, 1, &prefixes));
    let row = row.send(world.from_client(world.client(0x100), SYN), denied());
    world.establish(row, world.client(1), 0)
}

fn another_generation_holds_at_once(world: &World) -> Row {
    let whole = whole(world.family);
    let (old, new) = (around(world, 1, whole), around(world, 2, whole));
    let row = world
        .row("another generation holds from its first packet on")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(old, Action::Deny)]))
        .send(world.from_client(world.client(1), SYN), denied())
        .change(move |tables| set(tables, 2, &[(new, Action::Deny)]))
        .send(world.from_client(world.client(2), SYN), denied());
    world.open(row, world.client(1), 0)
}

fn a_dry_run_only_counts(world: &World) -> Row {
    let client = world.client(1);
    let deny = around(world, 1, whole(world.family));
    let row = world
        .row("a dry run of the firewall counts and drops nothing")
        .given(move |fixture| {
            set(&mut fixture.tables, 1, &[(deny, Action::Deny)]);
            fixture.tables.firewall.set_dry_run(true);
        });
    let row = world.open(row, client, 0);
    row.step(super::Step::Event(Event::FirewallWouldDrop, 1))
}

fn replies_come_back(world: &World) -> Row {
    let client = world.client(1);
    let deny = around(world, 0x1_0001, whole(world.family));
    let row = world
        .row("replies of backends that nobody denies")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(deny, Action::Deny)]));
    world.establish(row, client, 0)
}

fn tags_hide_nobody(world: &World) -> Row {
    let deny = around(world, 1, whole(world.family));
    world
        .row("a denied source in a VLAN")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(deny, Action::Deny)]))
        .send(world.from_client(world.client(1), SYN).tagged(7), denied())
}

fn what_is_for_the_host_is_dropped_too(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let deny = around(&world, 1, whole(family));
    let mut ssh = world.from_client(world.client(1), SYN);
    ssh.destination = family.service(99, 22);
    let mut other = world.from_client(world.client(2), SYN);
    other.destination = ssh.destination;
    world
        .row("a packet for the host itself")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(deny, Action::Deny)]))
        .send(&ssh, denied())
        .send(&other, Expect::passed(Verdict::PassNotOurs))
}

fn every_length_of_prefix(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let mut row = world.row("a prefix of every length");
    for length in 0..=whole(family) {
        let deny = around(&world, 1, length);
        row = row
            .change(move |tables| set(tables, length, &[(deny, Action::Deny)]))
            .send(world.from_client(world.client(1), SYN), denied());
    }
    row
}

/// Even where no service is of that version.
fn the_other_ip_version_is_looked_at(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let deny = around(&world, 1, whole(family));
    let others = match family {
        Family::V4 => features::IPV6,
        Family::V6 => features::IPV4,
    };
    world
        .row("a source of the IP version that no service has")
        .given(move |fixture| {
            fixture.tables.settings.features = others | features::NAT | features::FIREWALL;
            set(&mut fixture.tables, 1, &[(deny, Action::Deny)]);
        })
        .send(world.from_client(world.client(1), SYN), denied())
        .send(
            world.from_client(world.client(2), SYN),
            Expect::passed(Verdict::PassNotOurs),
        )
}

/// Addresses of IPv4 stand in the tables as mapped ones, which no prefix of IPv6 holds.
fn everybody_of_the_other_ip_version(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let [v4, v6] = Prefix::everybody();
    let others = if family == Family::V4 { v6 } else { v4 };
    let deny = around(&world, 1, whole(family));
    let row = world
        .row("all of the other IP version is denied, and a neighbour")
        .given(move |fixture| {
            set(
                &mut fixture.tables,
                1,
                &[(others, Action::Deny), (deny, Action::Deny)],
            );
        })
        .send(world.from_client(world.client(1), SYN), denied());
    world.open(row, world.client(2), 0)
}
