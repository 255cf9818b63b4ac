//! What `lb why` asks and what it gets, and the packets that are asked about.

mod build;
mod query;
mod summary;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    build::build,
    query::{Flags, PacketAsked, Query, Question},
    summary::summary,
};

/// Bytes of the longest frame that the kernel takes for a test run of a program that wants frames
/// in one piece.
pub const LONGEST_FRAME: usize = 3400;
/// Bytes of the shortest frame: an Ethernet header.
pub const SHORTEST_FRAME: usize = 14;

/// What would become of a packet. New keys go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The packet, in words.
    pub packet: String,
    /// The interface it came in by.
    pub interface: String,
    /// The decisions on its way, in words, in order.
    pub decisions: Vec<String>,
    /// The verdict's label.
    pub verdict: String,
    /// What the verdict means.
    pub explanation: String,
    /// The interface that a packet leaves by; nothing if none does.
    pub egress: Option<String>,
    /// The packet that leaves, in words.
    pub sent: Option<String>,
    /// The frame as it came in, in hexadecimal digits.
    pub frame: String,
    /// The frame that leaves, in hexadecimal digits.
    pub sent_frame: Option<String>,
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hexadecimal digits, between which white space and colons may stand.
///
/// # Errors
/// With a sentence.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut half = None;
    for character in text.chars().filter(|c| !c.is_whitespace() && *c != ':') {
        let Some(digit) = character.to_digit(16) else {
            return Err(format!(
                "{character:?} is no hexadecimal digit: a frame is written as in 0200ac1e..."
            ));
        };
        half = match half {
            None => Some(digit),
            Some(upper) => {
                bytes.push((upper << 4 | digit) as u8);
                None
            }
        };
    }
    if half.is_some() {
        return Err(
            "a frame has two hexadecimal digits for each byte: there is one too many".into(),
        );
    }
    check_length(&bytes)?;
    Ok(bytes)
}

/// Whether the kernel takes a frame of that length.
///
/// # Errors
/// With a sentence.
pub fn check_length(frame: &[u8]) -> Result<(), String> {
    if (SHORTEST_FRAME..=LONGEST_FRAME).contains(&frame.len()) {
        return Ok(());
    }
    Err(format!(
        "the frame has {} bytes; {SHORTEST_FRAME} (an Ethernet header) to {LONGEST_FRAME} can be \
         asked about",
        frame.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read_with_and_without_colons() {
        let frame: Vec<u8> = (0..20).collect();
        assert_eq!(from_hex(&to_hex(&frame)), Ok(frame.clone()));
        let spread = "00:01:02:03 04 05\n060708090a0b0c0d0e0f10111213";
        assert_eq!(from_hex(spread), Ok(frame));
    }

    #[test]
    fn other_text_is_refused_with_a_sentence() {
        assert!(from_hex("0g").unwrap_err().contains("'g'"));
        assert!(from_hex("000").unwrap_err().contains("one too many"));
        assert!(from_hex("0011").unwrap_err().contains("2 bytes"));
        let long = "00".repeat(LONGEST_FRAME + 1);
        assert!(from_hex(&long).unwrap_err().contains("3401"));
    }
}
