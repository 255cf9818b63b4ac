//! A service's own lists: who may use it, and nobody else.

use lb_common::{
    firewall::{Action, Prefix},
    host::HostTables,
    verdict::{Event, Verdict},
};
use lb_packets::{ACK, RST, SYN};

use super::{
    Expect, Row,
    world::{Family, World},
};

/// The scope of the service's prefixes, and one that is another service's.
const SCOPE: u32 = 5;
const OTHER: u32 = 6;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for world in World::all_nat().into_iter().chain(World::all_dsr()) {
        rows.extend([
            a_denied_source_begins_nothing(&world),
            only_allowed_sources_begin(&world),
            the_longest_match_decides(&world),
            what_is_established_goes_on(&world),
            a_dry_run_only_counts(&world),
            another_generation_holds_at_once(&world),
            lists_of_other_services_do_not_matter(&world),
            all_of_one_ip_version(&world),
        ]);
    }
    rows
}

fn whole(world: &World) -> u8 {
    match world.family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

/// A prefix of that length around a client.
fn around(world: &World, number: u32, length: u8) -> Prefix {
    Prefix::new(world.client(number).ip(), length)
}

fn set(tables: &mut HostTables, generation: u8, prefixes: &[(Prefix, Action)], allows_only: bool) {
    tables
        .firewall
        .set(tables.settings.hash_seed, generation, &[]);
    tables.firewall.set_service(SCOPE, prefixes);
    if allows_only {
        tables.firewall.allow_only(SCOPE);
    }
    for service in tables.services.values_mut() {
        service.lists = SCOPE;
    }
}

fn denied() -> Expect {
    Expect::dropped(Verdict::DropServiceDenied)
}

fn count(row: Row, count: u64) -> Row {
    row.check_tables(move |tables| {
        let denied: u64 = tables.denied.borrow().values().sum();
        if denied == count {
            Ok(())
        } else {
            Err(format!("{denied} packets were counted, not {count}"))
        }
    })
}

fn a_denied_source_begins_nothing(world: &World) -> Row {
    let deny = around(world, 1, whole(world) - 8);
    let row = world
        .row("a source that the service denies begins nothing, and gets no answer")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(deny, Action::Deny)], false));
    let row = [SYN, ACK, RST].into_iter().fold(row, |row, flags| {
        row.send(world.from_client(world.client(1), flags), denied())
    });
    let row = world.open(row, world.client(0x1_0001), 0);
    count(row, 3)
}

fn only_allowed_sources_begin(world: &World) -> Row {
    let allow = around(world, 1, whole(world) - 8);
    let row = world
        .row("only those that the service allows begin something")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(allow, Action::Allow)], true));
    let row = row.send(world.from_client(world.client(0x1_0001), SYN), denied());
    world.establish(row, world.client(1), 0)
}

fn the_longest_match_decides(world: &World) -> Row {
    let whole = whole(world);
    let prefixes = [
        (around(world, 1, whole - 8), Action::Allow),
        (around(world, 2, whole), Action::Deny),
    ];
    let row = world
        .row("the longest prefix of a service decides")
        .given(move |fixture| set(&mut fixture.tables, 1, &prefixes, true));
    let row = row.send(world.from_client(world.client(2), SYN), denied());
    world.open(row, world.client(1), 0)
}

/// The agent takes such flows out.
fn what_is_established_goes_on(world: &World) -> Row {
    let deny = around(world, 1, whole(world));
    let row = world.establish(
        world.row("a flow of a source that is denied later"),
        world.client(1),
        0,
    );
    let row = row.change(move |tables| set(tables, 1, &[(deny, Action::Deny)], false));
    world.forward(row, &world.from_client(world.client(1), ACK), 0)
}

fn a_dry_run_only_counts(world: &World) -> Row {
    let deny = around(world, 1, whole(world));
    let row = world
        .row("a dry run of the service's lists counts and drops nothing")
        .given(move |fixture| {
            set(&mut fixture.tables, 1, &[(deny, Action::Deny)], false);
            fixture.tables.firewall.set_dry_run(true);
        });
    let row = world.open(row, world.client(1), 0);
    count(row.event(Event::FirewallWouldDrop, 1), 1)
}

fn another_generation_holds_at_once(world: &World) -> Row {
    let whole = whole(world);
    let (old, new) = (around(world, 1, whole), around(world, 2, whole));
    let row = world
        .row("another generation of a service's lists holds at once")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(old, Action::Deny)], false))
        .send(world.from_client(world.client(1), SYN), denied())
        .change(move |tables| set(tables, 2, &[(new, Action::Deny)], false))
        .send(world.from_client(world.client(2), SYN), denied());
    world.open(row, world.client(1), 0)
}

fn lists_of_other_services_do_not_matter(world: &World) -> Row {
    let deny = around(world, 1, whole(world));
    let row = world.row("another service's lists").given(move |fixture| {
        let tables = &mut fixture.tables;
        set(tables, 1, &[], false);
        tables.firewall.set_service(OTHER, &[(deny, Action::Deny)]);
        tables.firewall.allow_only(OTHER);
    });
    world.open(row, world.client(1), 0)
}

/// Addresses of IPv4 stand in the tables as mapped ones, which no prefix of IPv6 holds.
fn all_of_one_ip_version(world: &World) -> Row {
    let [v4, v6] = Prefix::everybody();
    let is_v4 = world.family == Family::V4;
    let others = if is_v4 { v6 } else { v4 };
    let row = world
        .row("all of the other IP version is allowed, and then denied")
        .given(move |fixture| set(&mut fixture.tables, 1, &[(others, Action::Allow)], false));
    let row = row
        .change(move |tables| {
            tables.firewall.set(tables.settings.hash_seed, 2, &[]);
            tables
                .firewall
                .set_service(SCOPE, &[(others, Action::Allow)]);
            let own = if is_v4 { v4 } else { v6 };
            tables.firewall.set_service(SCOPE, &[(own, Action::Deny)]);
        })
        .send(world.from_client(world.client(1), SYN), denied())
        .change(move |tables| set(tables, 3, &[(others, Action::Deny)], false));
    world.open(row, world.client(1), 0)
}
