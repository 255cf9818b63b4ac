//! Texts that a session has prepared by PREPARE.

/// A prepared text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PreparedText {
    /// Its name in lower case.
    name: Vec<u8>,
    /// What was prepared, if it is known.
    pub(super) text: Option<Vec<u8>>,
    /// The session's environment at that time.
    pub(super) environment: u64,
}

/// Texts beyond so many bytes together are not kept.
const MOST_BYTES: usize = 16 * 1024;
/// Nor are more of them. The server has its own limit for how many there may be.
const MOST: usize = 64;

/// All of a session's.
#[derive(Clone, Debug, Default)]
pub(super) struct PreparedTexts {
    texts: Vec<PreparedText>,
    /// There are some that are not kept.
    more: bool,
}

impl PreparedTexts {
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && !self.more
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&PreparedText> {
        let mut texts = self.texts.iter();
        texts.find(|text| text.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn keep(&mut self, name: &[u8], text: Option<Vec<u8>>, environment: u64) {
        self.remove(name);
        if self.texts.len() >= MOST {
            self.more = true;
            return;
        }
        let lengths = self.texts.iter().filter_map(|text| text.text.as_ref());
        let bytes: usize = lengths.map(Vec::len).sum();
        self.texts.push(PreparedText {
            name: name.to_ascii_lowercase(),
            // Letters that are not ASCII may be the same as others to the server.
            text: text.filter(|text| bytes + text.len() <= MOST_BYTES && name.is_ascii()),
            environment,
        });
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.texts
            .retain(|text| !text.name.eq_ignore_ascii_case(name));
    }
}
