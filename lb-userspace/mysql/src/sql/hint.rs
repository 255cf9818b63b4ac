//! `/* lb:primary */` and `/* lb:replica */`.

/// Where somebody asks a statement to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// To the primary.
    Primary,
    /// To a replica, if it is a read.
    Replica,
}

/// Which hints a text has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    primary: bool,
    replica: bool,
}

impl Hints {
    /// What they come to: the primary wins.
    pub(super) fn hint(self) -> Option<Hint> {
        if self.primary {
            Some(Hint::Primary)
        } else {
            self.replica.then_some(Hint::Replica)
        }
    }
}

/// Looks at a comment.
pub(super) fn note(comment: &[u8], hints: &mut Hints) {
    let words = comment.trim_ascii();
    hints.primary |= words.eq_ignore_ascii_case(b"lb:primary");
    hints.replica |= words.eq_ignore_ascii_case(b"lb:replica");
}
