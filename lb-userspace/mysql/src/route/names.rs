//! A bounded set of names.

/// More names than this are too many to follow.
const MOST: usize = 64;
/// So are more bytes.
const MOST_BYTES: usize = 4096;

/// Names of something, until there are too many of them or one is not known: then the set never
/// is empty again.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    names: Vec<Vec<u8>>,
    unknown: bool,
}

impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.unknown
    }

    /// Puts a name in; none for one that is not known.
    pub(super) fn add(&mut self, name: Option<Vec<u8>>) {
        let Some(name) = name else {
            self.unknown = true;
            return;
        };
        if self.names.contains(&name) {
            return;
        }
        let bytes: usize = self.names.iter().map(Vec::len).sum();
        if self.names.len() >= MOST || bytes + name.len() > MOST_BYTES {
            self.unknown = true;
        } else {
            self.names.push(name);
        }
    }

    /// Takes a name out, if it is there.
    pub(super) fn remove(&mut self, name: &[u8]) {
        self.names.retain(|known| known != name);
    }
}
