//! What must hold after every frame, whatever it was.

mod errors;
mod firewall;
mod invariants;
mod reading;
mod steered;

use lb_common::{
    engine::Outcome,
    flow::FlowView,
    host::HostTables,
    tables::FlowTable,
    verdict::{Disposition, Event, Verdict},
};
use lb_packets::{hexdump, network_offset, verify};

use reading::{quoted, read_ip};
use steered::Passage;

/// Bytes of the largest answer that the balancer makes: Ethernet, tags, IPv6, ICMPv6, quote.
const LARGEST_ANSWER: usize = 14 + 8 + 40 + 8 + 128;

/// Remembers what was counted.
#[derive(Debug, Default)]
pub struct Oracle {
    steered: u64,
    replies: u64,
    /// The flows before the frame.
    flows: Vec<FlowView>,
}

impl Oracle {
    /// Looks at the tables before a frame comes.
    pub fn before(&mut self, tables: &HostTables) {
        self.flows = tables.views().collect();
    }

    /// Judges what became of one frame.
    ///
    /// # Errors
    /// What is wrong, and the frames.
    pub fn judge(
        &mut self,
        before: &[u8],
        ingress: u32,
        outcome: Outcome,
        after: &[u8],
        tables: &HostTables,
    ) -> Result<(), String> {
        self.check(before, ingress, outcome, after, tables)
            .map_err(|what| {
                format!(
                    "{what} ({outcome:?})\n in\n{} out\n{}",
                    hexdump(before),
                    hexdump(after)
                )
            })
    }

    fn check(
        &mut self,
        before: &[u8],
        ingress: u32,
        outcome: Outcome,
        after: &[u8],
        tables: &HostTables,
    ) -> Result<(), String> {
        match outcome.verdict.disposition() {
            Disposition::Pass => demand(before == after, "a frame that passes was changed")?,
            Disposition::Drop => {}
            Disposition::Emit => demand(outcome.egress != 0, "it leaves by no interface")?,
        }
        firewall::agrees(before, outcome.verdict, tables)?;
        let passage = Passage {
            before,
            after,
            outcome,
            tables,
            flows: &self.flows,
        };
        match outcome.verdict {
            Verdict::Steered => {
                self.steered += 1;
                steered::to_backend(&passage)?;
            }
            Verdict::SteeredReply => {
                self.replies += 1;
                steered::to_client(&passage)?;
            }
            Verdict::SteeredCheck => return Err("a check, and there are none".to_owned()),
            Verdict::AnsweredSynCookie | Verdict::AnsweredForClient | Verdict::DropEarly => {
                return Err("a SYN cookie, and there are none".to_owned());
            }
            Verdict::SteeredError => errors::translated(&passage)?,
            Verdict::AnsweredEcho => {
                demand(outcome.egress == ingress, "an answer leaves elsewhere")?;
                turned(before, after)?;
            }
            Verdict::AnsweredResetNoBackend
            | Verdict::AnsweredUnreachableNoBackend
            | Verdict::AnsweredResetNoFlow
            | Verdict::AnsweredTooBig
            | Verdict::AnsweredResetNoSourcePort
            | Verdict::AnsweredUnreachableNoSourcePort
            | Verdict::AnsweredResetBackendDown => {
                demand(outcome.egress == ingress, "an answer leaves elsewhere")?;
                answered(before, after)?;
            }
            // Errors are not counted, here as elsewhere.
            Verdict::SteeredLocal => self.steered += u64::from(quoted(before).is_none()),
            Verdict::PassNotOurs
            | Verdict::PassArp
            | Verdict::PassMpls
            | Verdict::PassPppoe
            | Verdict::PassNotIp
            | Verdict::PassProtocol
            | Verdict::PassOtherHost
            | Verdict::DropNoBackend
            | Verdict::DropNoCheck
            | Verdict::DropDenied
            | Verdict::DropServiceDenied
            | Verdict::DropRateNewConnections
            | Verdict::DropRatePackets
            | Verdict::DropRateFlows
            | Verdict::DropOffender
            | Verdict::DropLockedDown
            | Verdict::DropTtlExceeded
            | Verdict::DropMartian
            | Verdict::DropFragment
            | Verdict::DropFragmentMismatch
            | Verdict::DropErrorNoFlow
            | Verdict::DropNoSourcePort
            | Verdict::DropReflected
            | Verdict::DropMalformed
            | Verdict::DropNoNextHop
            | Verdict::DropTooBig
            | Verdict::DropTupleInUse
            | Verdict::DropTableContended
            | Verdict::DropResetNoFlow
            | Verdict::DropUnknownBackend
            | Verdict::DropAnswerLimited
            | Verdict::DropNoRoom => {
                demand(outcome.egress == 0, "it leaves though it must not")?;
            }
        }
        self.counted(tables)?;
        invariants::hold(tables)
    }

    /// The counters are those of the verdicts.
    fn counted(&self, tables: &HostTables) -> Result<(), String> {
        let counters = tables.counters.borrow();
        let packets: u64 = counters.values().map(|one| one.packets).sum();
        let replies: u64 = counters.values().map(|one| one.reply_packets).sum();
        demand(packets == self.steered, "packets of backends do not add up")?;
        demand(replies == self.replies, "replies of backends do not add up")
    }

    /// What must hold at the end of a story.
    ///
    /// # Errors
    /// What is wrong.
    pub fn sum_up(&self, tables: &HostTables) -> Result<(), String> {
        let established = tables.flows(FlowTable::Established) as u64;
        demand(
            established <= tables.event(Event::FlowEstablished),
            "flows that were never established",
        )?;
        let connections: u64 = tables
            .counters
            .borrow()
            .values()
            .map(|one| one.connections)
            .sum();
        let flows = established + tables.flows(FlowTable::HalfOpen) as u64;
        let begun = connections + tables.event(Event::ConnectionTakenUp);
        demand(flows <= begun, "flows that were never counted")
    }
}

fn demand(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

/// An answer is sound whatever it answers, goes to the sender, and quotes what came.
fn answered(before: &[u8], after: &[u8]) -> Result<(), String> {
    let seen = verify(after).map_err(|fault| format!("an answer is not sound: {fault}"))?;
    demand(seen.padding == 0, "an answer has padding")?;
    demand(after.len() <= LARGEST_ANSWER, "an answer is too large")?;
    demand(seen.has_verified_checksum, "an answer has no checksum")?;
    if let Some(quote) = quoted(after) {
        let packet = &before[network_offset(before)..];
        let differs = packet.iter().zip(&quote[14..]).filter(|(a, b)| a != b);
        // A SYN-ACK's segment size is lowered before it turns out to be too big: two bytes, and the
        // checksum's.
        demand(
            packet.len() >= quote.len() - 14 && differs.count() <= 4,
            "an answer quotes something else",
        )?;
    }
    goes_back(before, after)
}

/// An echo's answer is the request but for its direction.
fn turned(before: &[u8], after: &[u8]) -> Result<(), String> {
    goes_back(before, after)?;
    let (Ok(asked), Ok(told)) = (verify(before), verify(after)) else {
        return demand(verify(before).is_err(), "the request was sound");
    };
    demand(
        (asked.payload, asked.padding) == (told.payload, told.padding),
        "another echo than the sound",
    )
}

fn goes_back(before: &[u8], after: &[u8]) -> Result<(), String> {
    demand(
        after[..6] == before[6..12] && after[6..12] == before[..6],
        "an answer goes to another MAC",
    )?;
    let (Some((came, asked)), Some((left, told))) = (read_ip(before), read_ip(after)) else {
        return Err("it is no IP packet".to_owned());
    };
    demand(!asked.source.is_martian(), "it answers nobody")?;
    demand(
        (told.source, told.destination) == (asked.destination, asked.source),
        "an answer goes to another address",
    )?;
    demand(came.tags == left.tags, "an answer has other tags")
}
