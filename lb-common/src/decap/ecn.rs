//! Explicit congestion notification at the end of a tunnel (RFC 6040, figure 4).

/// Not ECN-capable transport.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, second form.
pub const ECT_1: u8 = 0b01;
/// ECN-capable transport, first form.
pub const ECT_0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// The bits that the packet goes on with, from those of both headers; `None` when it has to be
/// dropped: its sender knows no ECN and must learn of the congestion by a loss.
#[inline(always)]
#[must_use]
pub const fn arriving(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (CE, _) | (_, CE) => Some(CE),
        // The only other change that a node on the way may make to a capable packet.
        (ECT_0, ECT_1) => Some(ECT_1),
        (other, _) => Some(other),
    }
}
