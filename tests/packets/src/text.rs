//! Frames for people who look at a failed test.

use std::fmt::Write;

/// Sixteen bytes to a line, with their offset.
#[must_use]
pub fn hexdump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, line) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "  {:04x} ", index * 16);
        for byte in line {
            let _ = write!(text, " {byte:02x}");
        }
        text.push('\n');
    }
    text
}

/// Both frames and the first byte in which they differ; `None` when they do not.
#[must_use]
pub fn difference(expected: &[u8], found: &[u8]) -> Option<String> {
    if expected == found {
        return None;
    }
    let first = expected
        .iter()
        .zip(found)
        .position(|(a, b)| a != b)
        .unwrap_or(expected.len().min(found.len()));
    Some(format!(
        "{} bytes instead of {}, the first difference at {first:#06x}\n expected\n{} found\n{}",
        found.len(),
        expected.len(),
        hexdump(expected),
        hexdump(found)
    ))
}
