//! The firewall's tables in collections.

use std::collections::BTreeMap;

use crate::{
    abi::{Protocol, Ticks},
    firewall::{
        Action, CONTROL, Control, Entry, HOST, Key, Prefix, Words,
        count::{COUNTED, FLOW_LIMIT},
        lock::{PORT_WORDS, TRUSTED, bit_of},
        offender::SPAN,
        rate::{Kind, RATE, Rate, SOURCES, Sources},
    },
};

/// Who may send. Only what is set takes memory.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    control: Control,
    /// What stands behind the control.
    header: [u64; 7],
    words: BTreeMap<u32, u64>,
    /// With the prefixes' lengths.
    entries: Vec<(Key, Entry)>,
}

impl Words for BTreeMap<u32, u64> {
    fn set(&mut self, word: u32, mask: u64) {
        *self.entry(word).or_default() |= mask;
    }
}

impl Firewall {
    /// A generation with these prefixes, which holds.
    pub fn set(&mut self, seed: u64, generation: u8, prefixes: &[(Prefix, Action)]) {
        let is_short = prefixes.iter().any(|(prefix, _)| prefix.is_short_v6());
        self.control = Control::new(generation).short_v6(is_short);
        self.words.clear();
        self.entries.clear();
        for (prefix, action) in prefixes {
            prefix.set_bits(generation, seed, &mut self.words);
            self.entries
                .push((prefix.key(generation, HOST), prefix.entry(*action)));
        }
    }

    /// Prefixes of a service's own, in its scope; after [`Firewall::set`].
    pub fn set_service(&mut self, scope: u32, prefixes: &[(Prefix, Action)]) {
        let generation = self.control.generation();
        self.entries.extend(
            prefixes
                .iter()
                .map(|(prefix, action)| (prefix.key(generation, scope), prefix.entry(*action))),
        );
    }

    /// Keeps out of a service whoever no prefix of its own allows; after [`Firewall::set`].
    pub fn allow_only(&mut self, scope: u32) {
        let generation = self.control.generation();
        let everybody = Prefix::everybody();
        self.entries
            .extend(everybody.map(|prefix| (prefix.key(generation, scope), Entry::NOT_ALLOWED)));
    }

    /// Only counts what would be dropped.
    pub fn set_dry_run(&mut self, is_dry: bool) {
        self.control = self.control.dry_run(is_dry);
    }

    /// Locks the host down but for these ports and sources; after [`Firewall::set`].
    pub fn lock_down(&mut self, ports: &[(Protocol, u16)], trusted: &[Prefix]) {
        self.control = self.control.locked(true);
        self.words.retain(|word, _| !PORT_WORDS.contains(word));
        for (protocol, port) in ports {
            let bit = bit_of(*protocol, *port);
            self.words.set(bit.word, bit.mask);
        }
        self.trust(trusted);
    }

    /// What each source may begin, see [`crate::firewall::rate`].
    pub fn set_rate(&mut self, rate: Rate, sources: Sources) {
        self.set_limit(Kind::Connections, rate, sources);
    }

    /// What each source may begin or send.
    pub fn set_limit(&mut self, kind: Kind, rate: Rate, sources: Sources) {
        self.set_header(kind.word(), rate.0);
        self.set_header(SOURCES, sources.0);
    }

    /// For how long a source that exceeds a limit is denied.
    pub fn set_deny_span(&mut self, span: Ticks) {
        self.set_header(SPAN, span.0.into());
    }

    /// How many flows each source may have.
    pub fn set_flow_limit(&mut self, most: u32, sources: Sources) {
        self.set_header(FLOW_LIMIT, most.into());
        // As if it were to be done yet.
        self.set_counted(Ticks(u32::MAX / 2));
        self.set_header(SOURCES, sources.0);
    }

    /// When flows were last counted.
    pub fn set_counted(&mut self, counted: Ticks) {
        self.set_header(COUNTED, counted.0.into());
    }

    fn set_header(&mut self, index: u32, value: u64) {
        self.header[(index - RATE) as usize] = value;
    }

    /// Sources that nothing is asked of; after [`Firewall::set`].
    pub fn trust(&mut self, trusted: &[Prefix]) {
        let generation = self.control.generation();
        self.entries.extend(
            trusted
                .iter()
                .map(|prefix| (prefix.key(generation, TRUSTED), prefix.entry(Action::Allow))),
        );
    }

    /// The words that are not 0, by index.
    pub fn words(&self) -> impl Iterator<Item = (u32, u64)> {
        let control = (CONTROL, self.control.0);
        let words = self.words.iter().map(|(index, word)| (*index, *word));
        let header = (RATE..).zip(self.header);
        [control].into_iter().chain(header).chain(words)
    }

    /// What stands in the trie.
    #[must_use]
    pub fn entries(&self) -> &[(Key, Entry)] {
        &self.entries
    }

    pub(super) fn word(&self, index: u32) -> u64 {
        if index == CONTROL {
            return self.control.0;
        }
        if let Some(word) = self.header.get((index - RATE) as usize) {
            return *word;
        }
        self.words.get(&index).copied().unwrap_or(0)
    }

    pub(super) fn longest_match(&self, asked: &Key) -> Entry {
        let bits = |key: &Key| {
            let scope = u128::from(u32::from_be(key.scope));
            (scope, u128::from_be_bytes(key.address.octets()))
        };
        let (scope, address) = bits(asked);
        let matches = |key: &Key| {
            let (own_scope, own) = bits(key);
            let ignored = 160 - key.prefix_length;
            own_scope == scope && (ignored == 128 || (own ^ address) >> ignored == 0)
        };
        let found = self.entries.iter().filter(|(key, _)| matches(key));
        found
            .max_by_key(|(key, _)| key.prefix_length)
            .map_or(Entry::default(), |(_, entry)| *entry)
    }
}
