//! What is wrong with a text.

use super::Family;

/// A text is no set of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no set of {family}'s GTIDs: byte {at} is not {wanted}")]
pub struct GtidError {
    /// Whose spelling was expected.
    pub family: Family,
    /// Where it is wrong, from 0.
    pub at: usize,
    /// What should be there.
    pub wanted: &'static str,
}
