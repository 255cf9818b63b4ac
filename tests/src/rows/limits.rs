//! What each source may begin and send, and who is denied because he did more.

use lb_common::{
    abi::{Protocol, Ticks},
    firewall::rate::{Kind, Rate, Sources},
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, SYN};

use super::{
    Expect, Row,
    firewall::{around, whole},
    icmp::message,
    world::{Family, World},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat() {
        rows.extend([
            a_source_begins_as_many_as_it_may(&world),
            a_source_is_a_prefix(&world),
            a_dry_run_of_the_limit_only_counts(&world),
            tokens_come_with_time(&world),
            a_source_sends_as_many_packets_as_it_may(&world),
            a_dry_run_of_the_packet_limit_only_counts(&world),
            no_limit_holds_for_those_that_are_trusted(&world),
            what_is_for_no_service_is_not_counted(&world),
            who_sends_too_much_is_an_offender_too(&world),
            a_source_has_as_many_flows_as_it_may(&world),
            a_dry_run_of_the_flow_limit_only_counts(&world),
            no_flow_limit_holds_where_nobody_counts(&world),
        ]);
        if world.is_tcp() {
            rows.extend([
                strays_take_no_token(&world),
                an_offender_is_denied_altogether(&world),
                an_offender_is_denied_for_a_while(&world),
                who_is_trusted_is_no_offender(&world),
                a_dry_run_of_offenders_only_counts(&world),
            ]);
        } else {
            rows.push(nobody_is_denied_for_a_datagram(&world));
        }
    }
    rows.extend([Family::V4, Family::V6].map(pings_are_packets_too));
    rows
}

fn limited() -> Expect {
    Expect::dropped(Verdict::DropRateNewConnections)
}

/// With as many at once as that, and hardly any later.
pub(super) fn limit(row: Row, burst: u32, sources: Sources) -> Row {
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

fn offender() -> Expect {
    Expect::dropped(Verdict::DropOffender)
}

/// Denied for so long that no test sees the end.
pub(super) fn for_long(row: Row, seconds: u32) -> Row {
    row.given(move |fixture| {
        let firewall = &mut fixture.tables.firewall;
        firewall.set_deny_span(Ticks::from_seconds(seconds));
    })
}

fn an_offender_is_denied_altogether(world: &World) -> Row {
    let row = world.row("who begins too much is denied: his flows, and what is for the host");
    let row = for_long(limit(row, 1, Sources::new(32, 64, false)), 600);
    let client = world.client(1);
    let mut second = client;
    second.set_port(41_000);
    let mut ssh = world.from_client(client, SYN);
    ssh.destination = world.family.service(99, 22);
    let row = world.establish(row, client, 0);
    let row = row
        .send(&ssh, Expect::passed(Verdict::PassNotOurs))
        .send(world.from_client(second, SYN), limited())
        .event(Event::OffenderDenied, 1)
        .send(world.from_client(second, SYN), offender())
        .send(world.from_client(client, ACK), offender())
        .send(ssh.tagged(7), offender())
        .event(Event::OffenderDenied, 1);
    // Others, and replies to him.
    let row = world.reply(row, &world.from_backend(0, client, ACK));
    world.open(row, world.client(0x1_0002), 1)
}

/// It may be of a flow that a router moved here, or that lost its backend.
fn nobody_is_denied_for_a_datagram(world: &World) -> Row {
    let row = world.row("who has no token for a datagram is not denied for it");
    let row = for_long(limit(row, 1, Sources::new(32, 64, false)), 600);
    let client = world.client(1);
    let mut second = client;
    second.set_port(41_000);
    let row = world.establish(row, client, 0);
    let row = row.send(world.from_client(second, SYN), limited());
    let row = world.forward(row, &world.from_client(client, ACK), 0);
    row.event(Event::OffenderDenied, 0)
}

fn who_sends_too_much_is_an_offender_too(world: &World) -> Row {
    let row = world.row("who sends too much is denied, with his neighbours");
    let row = for_long(packets(row, 2, Sources::new(24, 64, false)), 600);
    let row = world.establish(row, world.client(1), 0);
    let row = row
        .send(world.from_client(world.client(1), ACK), too_many())
        .send(world.from_client(world.client(2), SYN), offender());
    world.open(row, world.client(0x1_0002), 1)
}

fn an_offender_is_denied_for_a_while(world: &World) -> Row {
    let row = world.row("an offender may begin again after a while");
    let row = for_long(limit(row, 1, Sources::new(32, 64, false)), 30);
    let mut second = world.client(1);
    second.set_port(41_000);
    let row = world.open(row, world.client(1), 0);
    let row = row
        .send(world.from_client(second, SYN), limited())
        .wait(29)
        .send(world.from_client(second, SYN), offender());
    world.open(row.wait(2), second, 1)
}

fn who_is_trusted_is_no_offender(world: &World) -> Row {
    let trusted = around(world, 1, whole(world.family));
    let row = world.row("who is trusted is denied neither by himself nor with others");
    let row = limit(row, 1, Sources::new(24, 48, false));
    let row = for_long(row, 600).given(move |fixture| fixture.tables.firewall.trust(&[trusted]));
    let mut second = world.client(1);
    second.set_port(41_000);
    let row = world.open(row, world.client(1), 0);
    let row = world.open(row, second, 1).event(Event::OffenderDenied, 0);
    let row = row
        .send(world.from_client(world.client(2), SYN), limited())
        .send(world.from_client(world.client(3), SYN), offender());
    second.set_port(41_001);
    world.open(row, second, 2)
}

fn a_dry_run_of_offenders_only_counts(world: &World) -> Row {
    let row = world.row("a dry run denies no offender");
    let row = for_long(limit(row, 1, Sources::new(24, 48, true)), 600);
    let row = world.open(row, world.client(1), 0);
    let row = world.open(row, world.client(2), 1);
    let row = row.event(Event::OffenderDenied, 1);
    let row = row.event(Event::FirewallWouldDrop, 1);
    // Once for the offender, once for the token.
    let row = world.open(row, world.client(3), 2);
    row.event(Event::FirewallWouldDrop, 3)
}

fn full() -> Expect {
    Expect::dropped(Verdict::DropRateFlows)
}

fn flows(row: Row, most: u32, sources: Sources) -> Row {
    row.given(move |fixture| fixture.tables.firewall.set_flow_limit(most, sources))
}

fn a_source_has_as_many_flows_as_it_may(world: &World) -> Row {
    let row = world.row("a source has as many flows as it may, and keeps them");
    let row = flows(row, 2, Sources::new(32, 64, false));
    let port = |number: u16| {
        let mut client = world.client(1);
        client.set_port(41_000 + number);
        client
    };
    let row = world.establish(row, port(1), 0);
    let row = world.open(row, port(2), 1);
    let row = row
        .send(world.from_client(port(3), SYN), full())
        .send(world.from_client(port(3), SYN), full());
    let row = world.forward(row, &world.from_client(port(1), ACK), 0);
    // It had no turn.
    world.open(row, world.client(0x1_0002), 2)
}

fn a_dry_run_of_the_flow_limit_only_counts(world: &World) -> Row {
    let row = world.row("a dry run of the flow limit counts and drops nothing");
    let row = flows(row, 1, Sources::new(24, 48, true));
    let row = world.open(row, world.client(1), 0);
    let row = world.open(row, world.client(2), 1);
    row.event(Event::FirewallWouldDrop, 1)
}

/// The agent may be gone.
fn no_flow_limit_holds_where_nobody_counts(world: &World) -> Row {
    let row = world.row("no flow limit holds where nobody counts flows");
    let row = flows(row, 1, Sources::new(24, 48, false));
    let row = row.given(|fixture| fixture.tables.firewall.set_counted(Ticks(u32::MAX - 40)));
    let row = world.open(row, world.client(1), 0);
    world.open(row, world.client(2), 1)
}
