//! Sets against ones that are as plain as can be: every transaction by itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Few servers, tags and numbers, so that they meet.
fn gtids() -> impl Strategy<Value = Vec<MySqlGtid>> {
    let one = (0..3_u8, 0..3_usize, 1..24_u64).prop_map(|(server, tag, number)| MySqlGtid {
        uuid: Uuid::from_bytes([server; 16]),
        tag: [Some(Tag::NONE), Tag::parse(b"a"), Tag::parse(b"b")][tag].unwrap(),
        number,
    });
    prop::collection::vec(one, 0..60)
}

fn positions() -> impl Strategy<Value = Vec<MariaDbGtid>> {
    let one = (0..4_u32, 1..3_u32, 1..9_u64).prop_map(|(domain, server, sequence)| MariaDbGtid {
        domain,
        server,
        sequence,
    });
    prop::collection::vec(one, 0..40)
}

fn mysql(gtids: &[MySqlGtid]) -> (MySqlSet, BTreeSet<MySqlGtid>) {
    let mut set = MySqlSet::new();
    for gtid in gtids {
        set.add(*gtid);
    }
    (set, gtids.iter().copied().collect())
}

fn mariadb(gtids: &[MariaDbGtid]) -> (MariaDbSet, BTreeMap<u32, u64>) {
    let mut set = MariaDbSet::new();
    let mut model = BTreeMap::new();
    for gtid in gtids {
        set.add(*gtid);
        let position = model.entry(gtid.domain).or_insert(0);
        *position = gtid.sequence.max(*position);
    }
    (set, model)
}

fn plain(set: &MariaDbSet) -> BTreeMap<u32, u64> {
    let positions = set.positions().iter();
    positions
        .map(|position| (position.domain, position.sequence))
        .collect()
}

/// A set as MySQL writes it must be the shortest and in order.
fn is_canonical(set: &MySqlSet) -> bool {
    MySqlSet::new().tap(|again| again.add_text(&set.to_string()).unwrap()) == *set
}

trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for MySqlSet {}
impl Tap for MariaDbSet {}

proptest! {
    #[test]
    fn mysql_sets_are_sets(one in gtids(), other in gtids()) {
        let (a, model_a) = mysql(&one);
        let (b, model_b) = mysql(&other);
        prop_assert!(is_canonical(&a));
        prop_assert_eq!(a.count(), model_a.len() as u64);
        prop_assert_eq!(a.contains(&b), model_a.is_superset(&model_b));
        prop_assert_eq!(a.meets(&b), !model_a.is_disjoint(&model_b));
        let both = a.clone().tap(|both| both.union(&b));
        let all: Vec<MySqlGtid> = model_a.union(&model_b).copied().collect();
        prop_assert_eq!(&both, &mysql(&all).0);
        let less: Vec<MySqlGtid> = model_a.difference(&model_b).copied().collect();
        prop_assert_eq!(&a.without(&b), &mysql(&less).0);
        prop_assert_eq!(a.without(&b).is_empty(), b.contains(&a));
        let mut filled = a.clone();
        filled.fill();
        prop_assert!(filled.contains(&a) && is_canonical(&filled));
        let whole: BTreeMap<_, _> = model_a.iter().map(|one| ((one.uuid, one.tag), one.number)).collect();
        let least = |key| model_a.iter().find(|one| (one.uuid, one.tag) == key).map_or(0, |one| one.number);
        let counts = whole.iter().map(|(key, last)| last - least(*key) + 1);
        prop_assert_eq!(filled.count(), counts.sum::<u64>());
        for gtid in &other {
            prop_assert_eq!(a.has(*gtid), model_a.contains(gtid));
        }
    }

    #[test]
    fn mysql_texts_in_any_order_are_the_set(one in gtids()) {
        let texts: Vec<String> = one.iter().map(ToString::to_string).collect();
        let mut read = MySqlSet::new();
        read.add_text(&texts.join(",")).unwrap();
        prop_assert_eq!(read, mysql(&one).0);
    }

    #[test]
    fn mariadb_sets_are_positions(one in positions(), other in positions()) {
        let (a, model_a) = mariadb(&one);
        let (b, model_b) = mariadb(&other);
        prop_assert_eq!(&plain(&a), &model_a);
        let reached = |(domain, sequence): (&u32, &u64)| model_a.get(domain) >= Some(sequence);
        prop_assert_eq!(a.contains(&b), model_b.iter().all(reached));
        let meet = model_b.keys().any(|domain| model_a.contains_key(domain));
        prop_assert_eq!(a.meets(&b), meet);
        let both = a.clone().tap(|both| both.union(&b));
        let all: Vec<MariaDbGtid> = [one.clone(), other].concat();
        prop_assert_eq!(plain(&both), mariadb(&all).1);
        prop_assert_eq!(a.without(&b).is_empty(), b.contains(&a));
        let texts: Vec<String> = one.iter().map(ToString::to_string).collect();
        let mut read = MariaDbSet::new();
        read.add_text(&texts.join(",")).unwrap();
        prop_assert_eq!(plain(&read), model_a);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-f:,_ -]{0,80}|\\PC{0,40}") {
        for family in [Family::MySql, Family::MariaDb] {
            let mut set = GtidSet::empty(family);
            match set.add_text(&text) {
                Ok(()) => {
                    let again = GtidSet::parse(family, &set.to_string());
                    prop_assert_eq!(again, Ok(set));
                }
                Err(error) => {
                    prop_assert!(error.at <= text.len());
                    prop_assert!(set.is_empty());
                }
            }
        }
    }
}
