//! Whatever happens to three servers, some things do not.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    testing::{seen, settings},
    *,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What one server is seen to be.
fn sight() -> impl Strategy<Value = String> {
    let source = prop::sample::select(vec!["", " <a", " <b", " <c", " <a!", " <b.", " <c#", " <z"]);
    let mode = prop::sample::select(vec!["rw", "rw", "ro", "ro", "down", "slow", "rw off"]);
    let has = prop::sample::select(vec![
        "",
        " has:a1-5",
        " has:a1-9,b1",
        " has:b1-3",
        " has:c1",
    ]);
    let id = prop::sample::select(vec!["", "", "", "", " id200"]);
    (mode, source, has, id).prop_map(|(mode, source, has, id)| match mode {
        "down" | "slow" => mode.to_owned(),
        mode => format!("{mode}{source}{has}{id}"),
    })
}

fn story() -> impl Strategy<Value = Vec<(usize, String)>> {
    prop::collection::vec((0..3_usize, sight()), 1..60)
}

/// Of a view: the primary's place and identity.
fn primary(view: &View) -> Option<(usize, Identity)> {
    let index = view.primary()?;
    Some((index, view.servers[index].identity?))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn there_is_one_primary_and_it_is_only_replaced_for_a_reason(
        story in story(),
        is_mariadb in any::<bool>(),
    ) {
        let mut topology = Topology::new(settings("a b c"), None);
        let mut latest: [Option<Result<Observation, Trouble>>; 3] = [None, None, None];
        let mut last_primary: Option<(usize, Identity)> = None;
        let mut epoch = 0;
        for (second, (server, words)) in (1..).zip(story) {
            let sight = seen(NAMES[server], &words, is_mariadb);
            // Sets of the other family have no meaning here.
            let sight = sight.map(|mut seen| {
                if is_mariadb {
                    seen.executed = None;
                }
                seen
            });
            latest[server] = Some(sight.clone());
            let now = Duration::from_secs(second);
            let events = topology.observe(now, server, sight);
            let view = topology.view();
            prop_assert!(view.epoch >= epoch, "epochs only rise");
            if let Some((index, identity)) = primary(view) {
                // It takes writes, as far as was seen; a slow answer alone changes nothing.
                match &latest[index] {
                    Some(Ok(seen)) => prop_assert!(!seen.read_only && !seen.offline),
                    Some(Err(trouble)) => prop_assert_eq!(trouble, &Trouble::TimedOut),
                    None => prop_assert!(false, "it was never asked"),
                }
                prop_assert!(!view.rivals.contains(&index));
                let is_same = last_primary
                    .is_some_and(|(last, known)| last == index && known.is(&identity));
                prop_assert_eq!(view.epoch, epoch + u64::from(!is_same), "{}", words);
                if let Some((last, known)) = last_primary && !is_same {
                    // The former one does not take writes for all we know, or has a source.
                    let may_write = match &latest[last] {
                        Some(Ok(seen)) => {
                            !seen.read_only && !seen.offline && seen.identity.is(&known)
                        }
                        _ => false,
                    };
                    let has_source = topology.view().servers[last].source.is_some();
                    let is_double = matches!(
                        topology.view().servers[last].reads,
                        Reads::No(NoReads::SameAs(_))
                    );
                    prop_assert!(!may_write || has_source || is_double, "{}", words);
                    let changed = events.iter().any(|event| matches!(event, Event::Changed { .. }));
                    prop_assert!(changed, "{:?}", events);
                }
                last_primary = Some((index, identity));
            } else {
                prop_assert_eq!(view.epoch, epoch);
            }
            epoch = topology.view().epoch;
            // Nobody is read from that is not reached or does not apply.
            for (index, _) in topology.view().readable() {
                match &latest[index] {
                    Some(Ok(seen)) => {
                        let mut channels = seen.channels().iter();
                        let is_root = topology.remembered().is_some_and(|known| {
                            known.name == NAMES[index]
                        });
                        prop_assert!(
                            is_root || channels.any(|channel| channel.sql_running),
                            "{}: {:?}", index, topology.view()
                        );
                    }
                    Some(Err(trouble)) => prop_assert_eq!(trouble, &Trouble::TimedOut),
                    None => prop_assert!(false, "it was never asked"),
                }
            }
        }
    }

    #[test]
    fn the_same_sights_again_tell_nothing_new(story in story()) {
        let mut topology = Topology::new(settings("a b c"), None);
        let mut latest: [Option<Result<Observation, Trouble>>; 3] = [None, None, None];
        let mut now = Duration::ZERO;
        for (server, words) in story {
            now += Duration::from_secs(1);
            let sight = seen(NAMES[server], &words, false);
            latest[server] = Some(sight.clone());
            topology.observe(now, server, sight);
        }
        // After a few rounds all that can be concluded from standing still has been.
        for round in 0..8 {
            for (server, sight) in latest.iter().enumerate() {
                let Some(sight) = sight else { continue };
                now += Duration::from_millis(1);
                let events = topology.observe(now, server, sight.clone());
                prop_assert!(round < 4 || events.is_empty(), "{:?}", events);
            }
        }
    }
}
