//! The firewall: whose packets are dropped before anything else, and whose are not.

use lb_common::{
    abi::{Protocol, features},
    firewall::{
        Action, Prefix,
        rate::{Kind, Rate, Sources},
    },
    host::HostTables,
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, SYN};

use super::{
    Expect, Row,
    icmp::message,
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
            a_source_begins_as_many_as_it_may(&world),
            a_source_is_a_prefix(&world),
            a_dry_run_of_the_limit_only_counts(&world),
            tokens_come_with_time(&world),
            a_source_sends_as_many_packets_as_it_may(&world),
            a_dry_run_of_the_packet_limit_only_counts(&world),
            no_limit_holds_for_those_that_are_trusted(&world),
            what_is_for_no_service_is_not_counted(&world),
        ]);
        if world.is_tcp() {
            rows.push(strays_take_no_token(&world));
        }
    }
    for family in [Family::V4, Family::V6] {
        rows.extend([
            what_is_for_the_host_is_dropped_too(family),
            every_length_of_prefix(family),
            the_other_ip_version_is_looked_at(family),
            everybody_of_the_other_ip_version(family),
            pings_are_packets_too(family),
        ]);
    }
    rows
}

/// A prefix of that length around a client.
fn around(world: &World, number: u32, length: u8) -> Prefix {
    Prefix::new(world.client(number).ip(), length)
}

fn set(tables: &mut HostTables, generation: u8, prefixes: &[(Prefix, Action)]) {
    let seed = tables.settings.hash_seed;
    tables.firewall.set(seed, generation, prefixes);
}

/// A whole address.
fn whole(family: Family) -> u8 {
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

fn limited() -> Expect {
    Expect::dropped(Verdict::DropRateNewConnections)
}

/// With as many at once as that, and hardly any later.
fn limit(row: Row, burst: u32, sources: Sources) -> Row {
    row.given(move |fixture| {
        let rate = Rate::new(1, burst);
        fixture.tables.firewall.set_rate(rate, sources);
    })
}

fn a_source_begins_as_many_as_it_may(world: &World) -> Row {
    let row = world.row("a source begins as many connections as it may, and keeps them");
    let row = limit(row, 2, Sources::new(32, 64, false));
    let port = |number: u16| {
        let mut client = world.client(1);
        client.set_port(41_000 + number);
        client
    };
    let row = world.open(row, port(1), 0);
    let row = world.open(row, port(2), 1);
    let row = row
        .send(world.from_client(port(3), SYN), limited())
        .send(world.from_client(port(4), SYN), limited());
    // Others have a bucket of their own.
    let row = world.open(row, world.client(0x1_0002), 2);
    if !world.is_tcp() {
        return row;
    }
    let row = world.reply(row, &world.from_backend(0, port(1), SYN | ACK));
    let row = world.forward(row, &world.from_client(port(1), ACK), 0);
    world.forward(row, &world.from_client(port(1), ACK), 0)
}

/// What begins no connection does not use up what its source may begin.
fn strays_take_no_token(world: &World) -> Row {
    let row = world.row("packets of no connection take no token");
    let row = limit(row, 1, Sources::new(32, 64, false));
    let stray = world.from_client(world.client(1), ACK);
    let answered = || Expect::sound(Verdict::AnsweredResetNoFlow);
    let row = row.send(&stray, answered()).send(&stray, answered());
    let row = world.open(row, world.client(1), 0);
    row.send(stray.payload(*b"more"), Expect::steered_somewhere())
}

fn a_source_is_a_prefix(world: &World) -> Row {
    let row = world.row("neighbours share a bucket");
    let row = limit(row, 1, Sources::new(24, 48, false));
    let row = world.open(row, world.client(1), 0);
    row.send(world.from_client(world.client(2), SYN), limited())
}

fn a_dry_run_of_the_limit_only_counts(world: &World) -> Row {
    let row = world.row("a dry run of the limit counts and drops nothing");
    let row = limit(row, 1, Sources::new(24, 48, true));
    let row = world.open(row, world.client(1), 0);
    let row = world.open(row, world.client(2), 1);
    row.event(Event::FirewallWouldDrop, 1)
}

fn tokens_come_with_time(world: &World) -> Row {
    let row = world.row("a source may begin again after a while");
    let row = limit(row, 1, Sources::new(24, 48, false));
    let row = world.open(row, world.client(1), 0);
    let row = row.send(world.from_client(world.client(2), SYN), limited());
    world.open(row.wait(2), world.client(3), 1)
}

fn too_many() -> Expect {
    Expect::dropped(Verdict::DropRatePackets)
}

/// As many packets, and hardly any later.
fn packets(row: Row, burst: u32, sources: Sources) -> Row {
    row.given(move |fixture| {
        let rate = Rate::new(1, burst);
        let firewall = &mut fixture.tables.firewall;
        firewall.set_limit(Kind::Packets, rate, sources);
    })
}

/// Those of what is established too; its backend's are nobody's business.
fn a_source_sends_as_many_packets_as_it_may(world: &World) -> Row {
    let row = world.row("a source sends as many packets as it may, of what is established too");
    let row = packets(row, 3, Sources::new(32, 64, false));
    let client = world.client(1);
    let packet = world.from_client(client, ACK);
    // Two packets of its client.
    let row = world.establish(row, client, 0);
    let row = world.forward(row, &packet, 0);
    let row = row.send(&packet, too_many()).send(&packet, too_many());
    let row = world.reply(row, &world.from_backend(0, client, ACK));
    world.open(row, world.client(0x1_0002), 1)
}

fn a_dry_run_of_the_packet_limit_only_counts(world: &World) -> Row {
    let row = world.row("a dry run of the packet limit counts and drops nothing");
    let row = packets(row, 1, Sources::new(24, 48, true));
    let row = world.open(row, world.client(1), 0);
    let row = world.open(row, world.client(2), 1);
    row.event(Event::FirewallWouldDrop, 1)
}

fn no_limit_holds_for_those_that_are_trusted(world: &World) -> Row {
    let trusted = around(world, 1, whole(world.family));
    let row = world.row("no limit holds for a source that is trusted");
    let row = packets(row, 1, Sources::new(24, 48, false)).given(move |fixture| {
        let firewall = &mut fixture.tables.firewall;
        firewall.set_rate(Rate::new(1, 1), Sources::new(24, 48, false));
        firewall.trust(&[trusted]);
    });
    let row = world.open(row, world.client(2), 0);
    let row = row.send(world.from_client(world.client(2), SYN), too_many());
    world.open(row, world.client(1), 1)
}

fn what_is_for_no_service_is_not_counted(world: &World) -> Row {
    let mut ssh = world.from_client(world.client(1), SYN);
    ssh.destination = world.family.service(99, 22);
    let row = world.row("packets that are for no service take no token");
    let row = packets(row, 1, Sources::new(32, 64, false));
    let passed = || Expect::passed(Verdict::PassNotOurs);
    let row = row.send(&ssh, passed()).send(&ssh, passed());
    world.open(row, world.client(1), 0)
}

fn pings_are_packets_too(family: Family) -> Row {
    let world = World::nat(family, Protocol::Tcp);
    let row = world.row("a flood of pings for a service");
    let row = packets(row, 2, Sources::new(32, 64, false));
    let kind = match family {
        Family::V4 => (8, 0),
        Family::V6 => (128, 0),
    };
    let ping = message(&world, world.client(1), world.service, kind);
    let answered = || Expect::sound(Verdict::AnsweredEcho);
    row.send(&ping, answered())
        .send(&ping, answered())
        .send(&ping, too_many())
}
