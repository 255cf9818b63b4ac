//! Packet rows: frames in, verdict and frames out.
//!
//! A row is defined once and runs on the host's engine and in the kernel (see [`run`]). Every
//! expected frame is built by etherparse from scratch, so a checksum that the engine updates
//! incrementally is compared with one computed in full; and whatever leaves is verified by
//! etherparse once more. One behaviour to a file.

pub mod run;
pub mod world;

mod backend_down;
mod checks;
mod closing;
mod counters;
mod dsr;
mod expiry;
mod extensions;
mod firewall;
mod flood;
mod foreign;
mod fragments;
mod full_nat;
mod handshake;
mod hop_limit;
mod icmp;
mod ip_versions;
mod jumbo;
mod length;
mod limits;
mod lock_down;
mod martians;
mod mistaken;
mod mss;
mod nat;
mod next_hop;
mod no_backend;
mod options;
mod order;
mod passive;
mod refused;
mod schedulers;
mod service_lists;
mod services;
mod stray;
mod syn_cookies;
mod taken_up;
mod tunnels;
mod udp_checksum;
mod vlan;

use std::fmt;

use lb_common::{
    host::{Fixture, HostTables},
    verdict::{Event, Verdict},
};

/// The name of a behaviour, which is that of its file, and what makes its rows.
pub type Behaviour = (&'static str, fn() -> Vec<Row>);

/// Every behaviour and its rows.
pub const BEHAVIOURS: [Behaviour; 39] = [
    ("backend_down", backend_down::rows),
    ("checks", checks::rows),
    ("closing", closing::rows),
    ("counters", counters::rows),
    ("dsr", dsr::rows),
    ("expiry", expiry::rows),
    ("extensions", extensions::rows),
    ("firewall", firewall::rows),
    ("flood", flood::rows),
    ("foreign", foreign::rows),
    ("martians", martians::rows),
    ("fragments", fragments::rows),
    ("full_nat", full_nat::rows),
    ("handshake", handshake::rows),
    ("hop_limit", hop_limit::rows),
    ("icmp", icmp::rows),
    ("ip_versions", ip_versions::rows),
    ("jumbo", jumbo::rows),
    ("length", length::rows),
    ("limits", limits::rows),
    ("lock_down", lock_down::rows),
    ("mistaken", mistaken::rows),
    ("mss", mss::rows),
    ("nat", nat::rows),
    ("next_hop", next_hop::rows),
    ("no_backend", no_backend::rows),
    ("options", options::rows),
    ("order", order::rows),
    ("passive", passive::rows),
    ("refused", refused::rows),
    ("schedulers", schedulers::rows),
    ("service_lists", service_lists::rows),
    ("services", services::rows),
    ("stray", stray::rows),
    ("syn_cookies", syn_cookies::rows),
    ("taken_up", taken_up::rows),
    ("tunnels", tunnels::rows),
    ("udp_checksum", udp_checksum::rows),
    ("vlan", vlan::rows),
];

/// The rows of one behaviour; none if there is no such behaviour.
#[must_use]
pub fn of(behaviour: &str) -> Vec<Row> {
    BEHAVIOURS
        .iter()
        .filter(|(name, _)| *name == behaviour)
        .flat_map(|(_, rows)| rows())
        .collect()
}

type Change = Box<dyn Fn(&mut HostTables) + Send + Sync>;
type CheckTables = Box<dyn Fn(&HostTables) -> Result<(), String> + Send + Sync>;
type Reaction = Box<dyn Fn() -> (Vec<u8>, Expect) + Send + Sync>;
type Check = Box<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

/// What happens in a row, one thing after the other.
pub(crate) enum Step {
    /// A frame comes in.
    Send {
        frame: Vec<u8>,
        ingress: u32,
        /// Bytes that the driver leaves in front of it, if it is another one than the kernel's.
        headroom: Option<usize>,
        expect: Expect,
    },
    /// A frame comes in that is made when its turn comes, because of what left before.
    React(Reaction),
    /// The agent changes the tables.
    Change(Change),
    /// Seconds go by.
    Wait(u32),
    /// An event was counted that often since the row began.
    Event(Event, u64),
    /// A backend has had so many new flows, packets and bytes.
    Backend(u32, [u64; 5]),
    /// So many handshakes with a backend were completed, refused, asked for again.
    Handshakes(u32, [u64; 3]),
    /// The host's tables, which can be looked into, are as the check wants them.
    Tables(CheckTables),
}

/// A row.
pub struct Row {
    /// Family, protocol and what is shown.
    pub name: String,
    pub(crate) setup: Box<dyn Fn() -> Fixture + Send + Sync>,
    pub(crate) steps: Vec<Step>,
    pub(crate) needs_host: Option<&'static str>,
}

impl fmt::Debug for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Row")
            .field("name", &self.name)
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}

impl Row {
    /// A row without steps.
    #[must_use]
    pub fn new(name: String, setup: impl Fn() -> Fixture + Send + Sync + 'static) -> Self {
        Self {
            name,
            setup: Box::new(setup),
            steps: Vec::new(),
            needs_host: None,
        }
    }

    /// Changes the tables before the first step.
    #[must_use]
    pub fn given(self, change: impl Fn(&mut Fixture) + Send + Sync + 'static) -> Self {
        let setup = self.setup;
        Self {
            setup: Box::new(move || {
                let mut fixture = setup();
                change(&mut fixture);
                fixture
            }),
            ..self
        }
    }

    /// A frame comes in.
    #[must_use]
    pub fn send(self, frame: impl Into<Vec<u8>>, expect: Expect) -> Self {
        let ingress = world::HERE;
        self.step(Step::Send {
            frame: frame.into(),
            ingress,
            headroom: None,
            expect,
        })
    }

    /// A frame comes in that is made when its turn comes, because of what left before.
    #[must_use]
    pub fn react(self, make: impl Fn() -> (Vec<u8>, Expect) + Send + Sync + 'static) -> Self {
        self.step(Step::React(Box::new(make)))
    }

    /// A frame comes in by another interface, which the kernel's test run cannot do.
    #[must_use]
    pub fn send_elsewhere(mut self, frame: impl Into<Vec<u8>>, expect: Expect) -> Self {
        self.needs_host = Some("a test run has one interface of ingress");
        self.step(Step::Send {
            frame: frame.into(),
            ingress: world::ELSEWHERE,
            headroom: None,
            expect,
        })
    }

    /// A frame comes in by a driver that leaves so many bytes in front of it.
    #[must_use]
    pub fn send_with_headroom(
        mut self,
        frame: impl Into<Vec<u8>>,
        headroom: usize,
        expect: Expect,
    ) -> Self {
        self.needs_host = Some("a test run has the headroom that the kernel gives it");
        self.step(Step::Send {
            frame: frame.into(),
            ingress: world::HERE,
            headroom: Some(headroom),
            expect,
        })
    }

    /// Changes the tables in a way that only the host's can be.
    #[must_use]
    pub fn change_on_host(
        mut self,
        why: &'static str,
        change: impl Fn(&mut HostTables) + Send + Sync + 'static,
    ) -> Self {
        self.needs_host = Some(why);
        self.change(change)
    }

    /// The agent changes the tables.
    #[must_use]
    pub fn change(self, change: impl Fn(&mut HostTables) + Send + Sync + 'static) -> Self {
        self.step(Step::Change(Box::new(change)))
    }

    /// Seconds go by, which only the host's clock does on command.
    #[must_use]
    pub fn wait(mut self, seconds: u32) -> Self {
        self.needs_host = Some("a test run uses the kernel's clock");
        self.step(Step::Wait(seconds))
    }

    /// An event was counted that often.
    #[must_use]
    pub fn event(self, event: Event, count: u64) -> Self {
        self.step(Step::Event(event, count))
    }

    /// A backend has had so many new flows, packets and their bytes, replies and their bytes.
    #[must_use]
    pub fn backend(self, id: u32, counters: [u64; 5]) -> Self {
        self.step(Step::Backend(id, counters))
    }

    /// So many handshakes with a backend were completed, refused, asked for again in vain.
    #[must_use]
    pub fn handshakes(self, id: u32, counts: [u64; 3]) -> Self {
        self.step(Step::Handshakes(id, counts))
    }

    /// Looks into the host's tables; in the kernel this says nothing.
    #[must_use]
    pub fn check_tables(
        self,
        check: impl Fn(&HostTables) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.step(Step::Tables(Box::new(check)))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Why it cannot run in the kernel, if so.
    #[must_use]
    pub fn needs_host(&self) -> Option<&'static str> {
        self.needs_host
    }

    /// The verdicts it expects.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.steps.iter().filter_map(|step| match step {
            Step::Send { expect, .. } => Some(expect.verdict),
            Step::React(make) => Some(make().1.verdict),
            Step::Change(_)
            | Step::Wait(_)
            | Step::Event(..)
            | Step::Backend(..)
            | Step::Handshakes(..)
            | Step::Tables(_) => None,
        })
    }
}

/// What the frame looks like that leaves.
pub(crate) enum Out {
    /// As it came.
    Unchanged,
    /// Exactly so.
    Exactly(Vec<u8>),
    /// Exactly so, though its checksums are wrong.
    Damaged(Vec<u8>),
    /// Right in every checksum and length; the rest is said elsewhere.
    Sound,
    /// As the check wants it.
    Checked(Check),
    /// Gone.
    Nothing,
}

/// What a frame meets.
pub struct Expect {
    pub(crate) verdict: Verdict,
    pub(crate) out: Out,
    pub(crate) egress: u32,
}

impl fmt::Debug for Expect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Expect({:?})", self.verdict)
    }
}

impl Expect {
    fn out(verdict: Verdict, out: Out) -> Self {
        Self {
            verdict,
            out,
            egress: world::HERE,
        }
    }

    /// It goes to a backend as this frame.
    #[must_use]
    pub fn steered(frame: impl Into<Vec<u8>>) -> Self {
        Self::out(Verdict::Steered, Out::Exactly(frame.into()))
    }

    /// It leaves as this frame, with the damage that it came with.
    #[must_use]
    pub fn damaged(verdict: Verdict, frame: impl Into<Vec<u8>>) -> Self {
        Self::out(verdict, Out::Damaged(frame.into()))
    }

    /// It goes to a backend, no matter which.
    #[must_use]
    pub fn steered_somewhere() -> Self {
        Self::out(Verdict::Steered, Out::Sound)
    }

    /// It goes to a client as this frame.
    #[must_use]
    pub fn replied(frame: impl Into<Vec<u8>>) -> Self {
        Self::out(Verdict::SteeredReply, Out::Exactly(frame.into()))
    }

    /// It is answered by whatever is sound.
    #[must_use]
    pub fn sound(verdict: Verdict) -> Self {
        Self::out(verdict, Out::Sound)
    }

    /// It is answered with this frame.
    #[must_use]
    pub fn answered(verdict: Verdict, frame: impl Into<Vec<u8>>) -> Self {
        Self::out(verdict, Out::Exactly(frame.into()))
    }

    /// It leaves as this frame.
    #[must_use]
    pub fn leaving(verdict: Verdict, frame: impl Into<Vec<u8>>) -> Self {
        Self::out(verdict, Out::Exactly(frame.into()))
    }

    /// Something leaves that the check likes.
    #[must_use]
    pub fn checked(
        verdict: Verdict,
        check: impl Fn(&[u8]) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self::out(verdict, Out::Checked(Box::new(check)))
    }

    /// It goes to the kernel's stack as it is.
    #[must_use]
    pub fn passed(verdict: Verdict) -> Self {
        Self::out(verdict, Out::Unchanged)
    }

    /// It goes nowhere.
    #[must_use]
    pub fn dropped(verdict: Verdict) -> Self {
        Self::out(verdict, Out::Nothing)
    }

    /// The same, leaving by another interface.
    #[must_use]
    pub fn by(self, egress: u32) -> Self {
        Self { egress, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Runs the rows of one behaviour on the host's engine.
    macro_rules! host {
        ($($behaviour:ident)*) => {
            $(
                #[test]
                fn $behaviour() {
                    let rows = of(stringify!($behaviour));
                    assert!(!rows.is_empty());
                    let failures = run::on_host(&rows);
                    assert!(failures.is_empty(), "{}", failures.join("\n"));
                }
            )*

            #[test]
            fn no_behaviour_is_left_out() {
                let run = [$(stringify!($behaviour)),*];
                assert_eq!(BEHAVIOURS.map(|(name, _)| name), run);
            }
        };
    }

    host! {
        backend_down checks closing counters dsr expiry extensions firewall flood foreign martians fragments full_nat handshake
        hop_limit icmp ip_versions jumbo length limits lock_down mistaken mss nat next_hop no_backend options order passive refused schedulers service_lists services stray syn_cookies taken_up tunnels udp_checksum vlan
    }

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for (behaviour, rows) in BEHAVIOURS {
            for row in rows() {
                let name = format!("{behaviour}: {}", row.name);
                assert!(seen.insert(name.clone()), "twice: {name}");
            }
        }
        println!("{} rows", seen.len());
    }

    #[test]
    fn every_verdict_has_a_row() {
        let rows = BEHAVIOURS.iter().flat_map(|(_, rows)| rows());
        let shown: HashSet<_> = rows
            .flat_map(|row| row.verdicts().collect::<Vec<_>>())
            .collect();
        let missing: Vec<_> = Verdict::ALL
            .into_iter()
            .filter(|verdict| !shown.contains(verdict))
            .collect();
        assert_eq!(missing, []);
    }
}
