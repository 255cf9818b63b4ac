//! What must hold after every frame, whatever it was.

use lb_common::{
    engine::Outcome,
    host::HostTables,
    tables::FlowTable,
    verdict::{Disposition, Event, Verdict},
};
use lb_packets::{Seen, hexdump, verify};

/// Bytes of the largest answer that the balancer makes: Ethernet, tag, IPv6, ICMPv6, quote.
const LARGEST_ANSWER: usize = 14 + 4 + 40 + 8 + 128;
/// Bytes of a tag.
const TAG: usize = 4;

/// Remembers what was counted.
#[derive(Debug, Default)]
pub struct Oracle {
    steered: u64,
    replies: u64,
}

impl Oracle {
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
        match outcome.verdict {
            Verdict::Steered => {
                self.steered += 1;
                rewritten(before, after)?;
                let hop = tables.next_hops.iter().skip(1).find(|hop| {
                    hop.ifindex == outcome.egress
                        && after[..6] == hop.destination
                        && after[6..12] == hop.source
                });
                demand(hop.is_some(), "it goes to nobody's MAC")?;
            }
            Verdict::SteeredReply => {
                self.replies += 1;
                rewritten(before, after)?;
            }
            Verdict::AnsweredResetNoBackend
            | Verdict::AnsweredUnreachableNoBackend
            | Verdict::AnsweredResetNoFlow
            | Verdict::AnsweredEcho
            | Verdict::AnsweredTooBig
            | Verdict::AnsweredResetNoSourcePort
            | Verdict::AnsweredUnreachableNoSourcePort
            | Verdict::AnsweredResetBackendDown => {
                demand(outcome.egress == ingress, "an answer leaves elsewhere")?;
                answered(before, after)?;
            }
            Verdict::SteeredError => {}
            Verdict::SteeredLocal => self.steered += 1,
            Verdict::PassNotOurs
            | Verdict::PassArp
            | Verdict::PassMpls
            | Verdict::PassPppoe
            | Verdict::PassNotIp
            | Verdict::PassProtocol
            | Verdict::PassOtherHost
            | Verdict::DropNoBackend
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
        self.counted(tables)
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
        demand(flows <= connections, "flows that were never counted")
    }
}

fn demand(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

/// A frame that goes on has the length that it had, but for a tag; and what was sound is sound.
fn rewritten(before: &[u8], after: &[u8]) -> Result<(), String> {
    demand(
        before.len().abs_diff(after.len()).is_multiple_of(TAG)
            && before.len().abs_diff(after.len()) <= TAG,
        "its length changed by more than a tag",
    )?;
    let Ok(seen_before) = verify(before) else {
        return Ok(());
    };
    let seen_after = verify(after).map_err(|fault| format!("it was sound: {fault}"))?;
    demand(
        content(&seen_before) == content(&seen_after),
        "its payload, padding or kind of checksum changed",
    )
}

fn content(seen: &Seen) -> (&[u8], usize, bool) {
    (&seen.payload, seen.padding, seen.has_verified_checksum)
}

/// An answer is sound whatever it answers, and goes to the sender.
fn answered(before: &[u8], after: &[u8]) -> Result<(), String> {
    let seen = verify(after).map_err(|fault| format!("an answer is not sound: {fault}"))?;
    demand(seen.padding == 0, "an answer has padding")?;
    demand(after.len() <= LARGEST_ANSWER, "an answer is too large")?;
    demand(
        after[..6] == before[6..12] && after[6..12] == before[..6],
        "an answer goes to another MAC",
    )?;
    demand(seen.has_verified_checksum, "an answer has no checksum")?;
    if let Ok(cause) = verify(before) {
        let turned = cause.addresses.map(|(from, to)| (to, from));
        demand(
            seen.addresses == turned,
            "an answer goes to another address",
        )?;
    }
    Ok(())
}
