//! What runs on every kernel of the matrix: each program that a config may ask for is loaded,
//! attached in both modes to a veth that carries a packet, and given the packet rows it covers.

mod agent;
mod decap;
mod veth;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::programs::XdpMode;
use lb_common::{
    abi::{
        Interface, Protocol,
        features::{self, BOTH_IP_VERSIONS},
    },
    host::{Fixture, HostFrame, HostTables, INGRESS, MAC_BALANCER},
    verdict::{Disposition, Verdict},
};
use serde_json::{Value, json};

use crate::{
    kernel::Kernel,
    rows::{
        BEHAVIOURS, Row,
        run::covered,
        world::{Family, World},
    },
};

pub use agent::try_agent;
pub use decap::try_decap;
pub use veth::Veth;

/// What every line of results begins with, so that it is told from the kernel's own.
pub const MARK: &str = "@lb ";

/// Lines of a verifier's log that are worth a look: its last ones.
const LOG_LINES: usize = 150;

/// A program that a config may ask for.
pub type Variant = (&'static str, u32);

/// Each feature alone, none and all, and each IP version alone.
pub const VARIANTS: [Variant; 26] = [
    ("none", BOTH_IP_VERSIONS),
    ("ipv4", features::IPV4),
    ("ipv6", features::IPV6),
    ("nat", BOTH_IP_VERSIONS | features::NAT),
    ("full-nat", BOTH_IP_VERSIONS | features::FULL_NAT),
    ("tunnel", BOTH_IP_VERSIONS | features::TUNNEL),
    ("hash", BOTH_IP_VERSIONS | features::HASH),
    (
        "least-connections",
        BOTH_IP_VERSIONS | features::LEAST_CONNECTIONS,
    ),
    ("affinity", BOTH_IP_VERSIONS | features::AFFINITY),
    ("one-packet", BOTH_IP_VERSIONS | features::ONE_PACKET),
    ("server-id", BOTH_IP_VERSIONS | features::SERVER_ID),
    ("mss-clamp", BOTH_IP_VERSIONS | features::MSS_CLAMP),
    ("multi-buffer", BOTH_IP_VERSIONS | features::MULTI_BUFFER),
    ("checks", BOTH_IP_VERSIONS | features::CHECKS),
    ("handshakes", BOTH_IP_VERSIONS | features::HANDSHAKES),
    ("sync", BOTH_IP_VERSIONS | features::SYNC),
    ("firewall", BOTH_IP_VERSIONS | features::FIREWALL),
    ("rate-limit", BOTH_IP_VERSIONS | features::RATE_LIMIT),
    ("packet-limit", BOTH_IP_VERSIONS | features::PACKET_LIMIT),
    (
        "offenders",
        BOTH_IP_VERSIONS | features::RATE_LIMIT | features::OFFENDERS,
    ),
    ("flow-limit", BOTH_IP_VERSIONS | features::FLOW_LIMIT),
    ("lock-down", BOTH_IP_VERSIONS | features::LOCK_DOWN),
    ("syn-cookies", BOTH_IP_VERSIONS | features::SYN_COOKIES),
    ("take-up", BOTH_IP_VERSIONS | features::TAKE_UP),
    ("service-lists", BOTH_IP_VERSIONS | features::SERVICE_LISTS),
    ("all", features::ALL),
];

/// The rows of every behaviour.
#[must_use]
pub fn all_rows() -> Vec<Row> {
    BEHAVIOURS.iter().flat_map(|(_, rows)| rows()).collect()
}

/// The verifier refuses a program that it has to walk through for a million instructions, and how
/// many those are differs from kernel to kernel.
const MOST_VERIFIED: u32 = 850_000;

/// Loads and runs one program, and says what came of it as an object for the matrix.
#[must_use]
pub fn try_variant((name, features): Variant, rows: &[Row], veth: &Veth) -> Value {
    let began = Instant::now();
    let mut fixture = Fixture::default();
    fixture.tables.settings.features = features;
    let kernel = match Kernel::load(&fixture.tables) {
        Ok(kernel) => kernel,
        Err(error) => {
            return json!({
                "variant": name,
                "refused": last_lines(&format!("{error:#}")),
            });
        }
    };
    let loading = began.elapsed();
    match measure(kernel, features, rows, veth) {
        Ok(mut found) => {
            found["variant"] = name.into();
            found["load_seconds"] = loading.as_secs_f64().into();
            found["seconds"] = began.elapsed().as_secs_f64().into();
            found
        }
        Err(error) => json!({ "variant": name, "refused": format!("{error:#}") }),
    }
}

fn measure(mut kernel: Kernel, features: u32, rows: &[Row], veth: &Veth) -> Result<Value> {
    let info = kernel.steer()?.info()?;
    let verified = info.verified_instruction_count();
    ensure!(
        verified.is_none_or(|verified| verified < MOST_VERIFIED),
        "{verified:?} instructions verified, which is close to what this kernel refuses"
    );
    let instructions = info.size_translated().map(|bytes| bytes / 8);
    let rows = covered(&mut kernel, features, rows)?;
    let native = steer_on(&mut kernel, features, veth, XdpMode::Driver);
    let generic = steer_on(&mut kernel, features, veth, XdpMode::Skb);
    Ok(json!({
        "verified": verified,
        "instructions": instructions,
        "native": outcome(native),
        "generic": outcome(generic),
        "rows": rows.rows,
        "rows_passed": rows.rows - rows.failures.len(),
        "failures": rows.failures,
    }))
}

fn outcome(result: Result<()>) -> String {
    result.map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned())
}

/// Attaches the program to one end of the veth, and sends packets from the other, to which they
/// have to come back steered.
fn steer_on(kernel: &mut Kernel, features: u32, veth: &Veth, mode: XdpMode) -> Result<()> {
    let program = kernel.steer()?;
    let link = program
        .attach_to_if_index(veth.balancer, mode)
        .context("attaching")?;
    let result = [(Family::V4, features::IPV4), (Family::V6, features::IPV6)]
        .into_iter()
        .filter(|(_, version)| features & version != 0)
        .try_for_each(|(family, _)| steer_one(kernel, features, veth, family));
    kernel.steer()?.detach(link)?;
    result
}

fn steer_one(kernel: &mut Kernel, features: u32, veth: &Veth, family: Family) -> Result<()> {
    let world = if features & features::NAT == 0 {
        World::dsr(family, Protocol::Tcp)
    } else {
        World::nat(family, Protocol::Tcp)
    };
    let mut tables = world.fixture().tables;
    tables.settings.features = features;
    move_to(&mut tables, veth.balancer);
    kernel.refill(&tables)?;
    kernel.forget_flows(&tables)?;
    let frame = world.from_client(world.client(1), lb_packets::SYN).bytes();
    let mut host = HostFrame::new(&frame, veth.balancer);
    let outcome = lb_common::engine::process(&mut host, &tables);
    ensure!(
        outcome.verdict.disposition() == Disposition::Emit,
        "on the host the packet meets {:?}",
        outcome.verdict
    );
    let before = kernel.verdict(Verdict::Steered)?;
    veth.exchange(&frame, host.bytes())
        .with_context(|| format!("{family:?}"))?;
    let steered = kernel.verdict(Verdict::Steered)? - before;
    ensure!(steered == 1, "{family:?}: {steered} packets were counted");
    Ok(())
}

/// Lets everything happen on another interface than the fixture's.
fn move_to(tables: &mut HostTables, ifindex: u32) {
    tables.interfaces.remove(&INGRESS);
    tables.interfaces.insert(
        ifindex,
        Interface {
            mac: MAC_BALANCER,
            reserved: [0; 2],
            mtu: 1500,
        },
    );
    for hop in &mut tables.next_hops {
        hop.ifindex = ifindex;
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LOG_LINES);
    let first = lines.first().copied().filter(|_| skipped > 0);
    let rest = lines.get(skipped..).unwrap_or_default();
    first
        .into_iter()
        .chain(rest.iter().copied())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_its_program() {
        // By itself, or with the few that it is of no use without.
        let own = VARIANTS
            .iter()
            .filter(|(name, _)| *name != "all")
            .fold(0, |own, (_, features)| own | features);
        assert_eq!(own, features::ALL);
    }
}
