//! Packets in pieces, as hosts and routers cut them.

use etherparse::checksum::Sum16BitWords;

use crate::network_offset;

/// A part of a packet's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins, a multiple of 8.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// Whether it says that another one follows.
    pub more: bool,
}

/// The pieces of a payload of that length, of at most `size` bytes each.
#[must_use]
pub fn cut(length: usize, size: usize) -> Vec<Piece> {
    let size = (size & !7).max(8);
    (0..length)
        .step_by(size)
        .map(|from| Piece {
            from,
            to: (from + size).min(length),
            more: from + size < length,
        })
        .collect()
}

/// The frame with one piece of a packet. `whole` is a frame without IPv4 options and IPv6 extension
/// headers; `None` if it is not, or has no such piece.
#[must_use]
pub fn fragment(whole: &[u8], identification: u32, piece: Piece) -> Option<Vec<u8>> {
    let network = network_offset(whole);
    let first = *whole.get(network)?;
    let (header, extension) = match first {
        0x45 => (20, 0),
        _ if first >> 4 == 6 => (40, 8),
        _ => return None,
    };
    let data = whole.get(network + header + piece.from..network + header + piece.to)?;
    let mut frame = whole[..network + header].to_vec();
    let ip = &mut frame[network..];
    let place = (piece.from / 8) as u16;
    let length = (extension + data.len()) as u16;
    if extension == 0 {
        ip[2..4].copy_from_slice(&(length + header as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&(identification as u16).to_be_bytes());
        ip[6..8].copy_from_slice(&(place | u16::from(piece.more) << 13).to_be_bytes());
        ip[10..12].fill(0);
        let sum = Sum16BitWords::new().add_slice(ip).ones_complement();
        ip[10..12].copy_from_slice(&sum.to_ne_bytes());
    } else {
        ip[4..6].copy_from_slice(&length.to_be_bytes());
        let next = std::mem::replace(&mut ip[6], 44);
        let place = (place << 3 | u16::from(piece.more)).to_be_bytes();
        frame.extend_from_slice(&[next, 0, place[0], place[1]]);
        frame.extend_from_slice(&identification.to_be_bytes());
    }
    frame.extend_from_slice(data);
    Some(frame)
}

/// The length of what stands above IP in a frame, as its IP header has it.
#[must_use]
pub fn payload_length(frame: &[u8]) -> Option<usize> {
    let network = network_offset(frame);
    let ip = frame.get(network..)?;
    match ip.first()? >> 4 {
        4 => {
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            total.checked_sub(usize::from(ip[0] & 15) * 4)
        }
        6 => Some(usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]))),
        _ => None,
    }
}
