//! What servers say of a session's transactions in OK packets.
//!
//! MySQL has a tracker of its own (`SESSION_TRACK_GTIDS`, with `session_track_gtids = OWN_GTID`).
//! MariaDB has the variable `last_gtid`, which it tells as it tells any other when
//! `session_track_system_variables` names it.

use super::{Family, GtidError};

/// MariaDB's variable with the transaction that a session wrote last; its value, when it is not
/// empty, is what [`super::GtidSet::add_text`] takes.
pub const LAST_GTID: &str = "last_gtid";

/// The text in the data of MySQL's tracker: one byte that says how it is written, of which there is
/// one way, and the text with its length before it.
///
/// # Errors
/// When it is something else.
pub fn from_tracker(data: &[u8]) -> Result<&str, GtidError> {
    let wrong = |at, wanted| GtidError {
        family: Family::MySql,
        at,
        wanted,
    };
    let [0, rest @ ..] = data else {
        return Err(wrong(0, "the 0 that tells of a text"));
    };
    let (length, head) = match *rest {
        [length @ ..=250, ..] => (usize::from(length), 1),
        [0xfc, low, high, ..] => (usize::from(u16::from_le_bytes([low, high])), 3),
        [0xfd, low, middle, high, ..] => {
            let length = u32::from_le_bytes([low, middle, high, 0]);
            (usize::try_from(length).unwrap_or(usize::MAX), 4)
        }
        _ => return Err(wrong(1, "the length of a text")),
    };
    let text = rest.get(head..).filter(|text| text.len() == length);
    let text = text.ok_or_else(|| wrong(1 + head, "a text of the length that was told"))?;
    std::str::from_utf8(text).map_err(|error| wrong(1 + head + error.valid_up_to(), "text"))
}
