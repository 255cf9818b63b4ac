//! The tables of the firewall, see [`lb_common::firewall`].

use aya::maps::{LpmTrie, MapData, MapError, lpm_trie};
use lb_common::{
    abi::{Protocol, Settings, Ticks, features, maps},
    firewall::{
        Action, CONTROL, Control, Entry, HOST, Key, MOST_PREFIXES, Prefix,
        lock::{PORT_WORDS, TRUSTED, bit_of},
        offender::SPAN,
        rate::{Kind, Rate, SOURCES, Sources},
        words_of,
    },
};
use zerocopy::IntoBytes as _;

use super::{
    error::{Error, chain},
    offenders::OffenderTable,
    words::Words,
};

/// Features whose prefixes stand here.
const WITH_PREFIXES: u32 =
    features::FIREWALL | features::LIMITS | features::LOCK_DOWN | features::SERVICE_LISTS;

/// A key as aya has it, behind its length.
type Data = [u8; 20];
type Trie = LpmTrie<MapData, Data, u32>;

/// What each source may begin and send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// New connections.
    pub connections: Rate,
    /// Packets to services.
    pub packets: Rate,
    /// Flows at a time; 0 is no limit.
    pub flows: u32,
    /// What is one source.
    pub sources: Sources,
    /// For how long a source is denied that exceeds them; 0 is not at all.
    pub deny: Ticks,
}

/// Who may send.
pub struct FirewallTable {
    words: Words,
    trie: Trie,
    offenders: OffenderTable,
    settings: Settings,
}

/// The words as bits are set in them.
struct Bits<'w>(&'w Words);

impl lb_common::firewall::Words for Bits<'_> {
    fn set(&mut self, word: u32, mask: u64) {
        if let Some(word) = self.0.all().get(word as usize) {
            word.store(word.load() | mask);
        }
    }
}

fn failed(action: &'static str) -> impl FnOnce(MapError) -> Error {
    move |error| Error::Table {
        table: maps::FIREWALL_LPM,
        action,
        reason: chain(&error),
    }
}

fn key(prefix: Prefix, generation: u8, scope: u32) -> lpm_trie::Key<Data> {
    let key = prefix.key(generation, scope);
    let mut data = [0; 20];
    data.copy_from_slice(&key.as_bytes()[4..]);
    lpm_trie::Key::new(key.prefix_length, data)
}

/// The generation that a key is of: its first byte.
fn generation(key: &lpm_trie::Key<Data>) -> u8 {
    let data = key.data();
    data[0]
}

impl FirewallTable {
    pub(super) fn new(
        words: Words,
        trie: Trie,
        offenders: OffenderTable,
        settings: Settings,
    ) -> Self {
        Self {
            words,
            trie,
            offenders,
            settings,
        }
    }

    /// Whether the program looks at sources at all.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.settings.features & WITH_PREFIXES != 0
    }

    /// Which generation holds, and how.
    #[must_use]
    pub fn control(&self) -> Control {
        let word = self.words.all().get(CONTROL as usize);
        Control(word.map_or(0, lb_common::shared::Shared64::load))
    }

    /// What holds from now on, in one step.
    pub fn set_control(&mut self, control: Control) {
        if let Some(word) = self.words.all().get(CONTROL as usize) {
            word.publish(control.0);
        }
    }

    /// What each source may begin and send from now on.
    ///
    /// # Errors
    /// When those that were denied cannot be forgotten.
    pub fn set_limits(&mut self, limits: &Limits) -> Result<(), Error> {
        let word = |index: u32| self.words.all().get(index as usize);
        let set = |index: u32, value: u64| {
            if let Some(word) = word(index) {
                word.publish(value);
            }
        };
        let before = word(SOURCES).map_or(0, |word| word.load());
        let former = Sources(before);
        // Whoever is denied is a source of the former kind, or was only on trial.
        let is_other = !former.are_as_large_as(limits.sources)
            || (former.is_dry_run() && !limits.sources.is_dry_run());
        set(SPAN, limits.deny.0.into());
        set(SOURCES, limits.sources.0);
        set(Kind::Connections.word(), limits.connections.0);
        set(Kind::Packets.word(), limits.packets.0);
        set(Kind::Flows.word(), limits.flows.into());
        if limits.deny.0 == 0 || is_other {
            self.offenders.lift(None)?;
        }
        Ok(())
    }

    /// Its words.
    pub(super) fn words(&self) -> Words {
        self.words.clone()
    }

    /// Sources that are denied for a while.
    pub fn offenders(&mut self) -> &mut OffenderTable {
        &mut self.offenders
    }

    /// Empties the bitmap of a generation that does not hold.
    pub fn clear_bits(&mut self, generation: u8) {
        let range = words_of(generation);
        let range = range.start as usize..range.end as usize;
        for word in self.words.all().get(range).into_iter().flatten() {
            word.store(0);
        }
    }

    /// Adds or replaces a prefix: first where it is looked up, then the bit that leads there.
    pub fn set(&mut self, prefix: Prefix, action: Action, generation: u8) -> Result<(), Error> {
        let entry = prefix.entry(action);
        self.trie
            .insert(&key(prefix, generation, HOST), entry.0, 0)
            .map_err(failed("write"))?;
        prefix.set_bits(generation, self.settings.hash_seed, &mut Bits(&self.words));
        Ok(())
    }

    /// Removes a prefix; one that is not there is fine. Its bit stays: it is shared.
    pub fn remove(&mut self, prefix: Prefix, generation: u8) -> Result<(), Error> {
        self.remove_key(&key(prefix, generation, HOST))
    }

    /// Adds a source that may reach all of this host when it is locked down.
    pub fn trust(&mut self, prefix: Prefix, generation: u8) -> Result<(), Error> {
        let entry = prefix.entry(Action::Allow);
        self.trie
            .insert(&key(prefix, generation, TRUSTED), entry.0, 0)
            .map_err(failed("write"))
    }

    /// Removes such a source.
    pub fn distrust(&mut self, prefix: Prefix, generation: u8) -> Result<(), Error> {
        self.remove_key(&key(prefix, generation, TRUSTED))
    }

    /// Adds or replaces what a service's lists say of a prefix.
    pub fn set_of_service(
        &mut self,
        prefix: Prefix,
        entry: Entry,
        scope: u32,
        generation: u8,
    ) -> Result<(), Error> {
        self.trie
            .insert(&key(prefix, generation, scope), entry.0, 0)
            .map_err(failed("write"))
    }

    /// Removes it.
    pub fn remove_of_service(
        &mut self,
        prefix: Prefix,
        scope: u32,
        generation: u8,
    ) -> Result<(), Error> {
        self.remove_key(&key(prefix, generation, scope))
    }

    /// Has these be the ports that anybody may begin to talk to when this host is locked down: each
    /// port by itself, at once.
    pub fn set_ports(&mut self, ports: impl Iterator<Item = (Protocol, u16)>) {
        let range = PORT_WORDS.start as usize..PORT_WORDS.end as usize;
        let mut wanted = vec![0_u64; range.len()];
        for (protocol, port) in ports {
            let bit = bit_of(protocol, port);
            if let Some(word) = wanted.get_mut(bit.word as usize - range.start) {
                *word |= bit.mask;
            }
        }
        let words = self.words.all().get(range).into_iter().flatten();
        for (word, wanted) in words.zip(wanted) {
            word.store(wanted);
        }
    }

    /// Removes what is of other generations than that.
    pub fn remove_others(&mut self, kept: u8) -> Result<(), Error> {
        let keys: Vec<_> = self
            .trie
            .keys()
            // A trie that changed under the walk could lead in a circle.
            .take(4 * MOST_PREFIXES as usize)
            .collect::<Result<_, _>>()
            .map_err(failed("read"))?;
        let mut others = keys.iter().filter(|key| generation(key) != kept);
        others.try_for_each(|key| self.remove_key(key))
    }

    fn remove_key(&mut self, key: &lpm_trie::Key<Data>) -> Result<(), Error> {
        super::tables::absent_is_fine(self.trie.remove(key)).map_err(failed("write"))
    }
}

const _: () = assert!(size_of::<Key>() == 4 + size_of::<Data>());
