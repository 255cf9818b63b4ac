//! What was set at run time instead of what the config says, about weights and states.

use super::state_file::{Override, Overrides, Weight};
use crate::{
    config::model::Model,
    control::{Act, Change, Changed, Pattern, State},
};

/// Puts weights that were set at run time into a config, and forgets those of backends whose weight
/// the config has changed since. Says which those are.
pub(super) fn apply(model: &mut Model, overrides: &mut Overrides) -> Vec<String> {
    let mut forgotten = Vec::new();
    for service in &mut model.services {
        for backend in &mut service.backends {
            let name = (service.name.clone(), backend.name.clone());
            let Some(set) = overrides.get_mut(&name) else {
                continue;
            };
            let Some(Weight {
                set: weight,
                instead_of,
            }) = set.weight
            else {
                continue;
            };
            if instead_of == backend.weight {
                backend.weight = weight;
            } else {
                set.weight = None;
                forgotten.push(format!(
                    "{}/{}: the weight {weight} that was set at run time gives way to the config's \
                     new weight {}",
                    service.name, backend.name, backend.weight
                ));
            }
        }
    }
    overrides.retain(|_, set| !set.is_nothing());
    forgotten
}

/// What the config says of a backend's weight, which is `now`.
pub(super) fn configured_weight(set: Option<&Override>, now: u16) -> u16 {
    set.and_then(|set| set.weight)
        .map_or(now, |weight| weight.instead_of)
}

/// A backend as it is now, as far as it can be changed at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Present<'a> {
    pub(super) service: &'a str,
    pub(super) backend: &'a str,
    pub(super) weight: u16,
}

/// What becomes of the backends that are meant, and what is set at run time from then on; `None`
/// if there are none. A reset also means those that are not there any more.
pub(super) fn act<'a>(
    backends: impl Iterator<Item = Present<'a>>,
    overrides: &Overrides,
    pattern: &Pattern,
    act: Act,
) -> Option<(Vec<Changed>, Overrides)> {
    let mut after = overrides.clone();
    let changed: Vec<Changed> = backends
        .filter(|present| pattern.matches(present.service, present.backend))
        .map(|present| {
            let name = (present.service.to_owned(), present.backend.to_owned());
            let before = overrides.get(&name).copied().unwrap_or_default();
            let config = configured_weight(Some(&before), present.weight);
            let set = match act {
                Act::Reset => Override::default(),
                Act::Set(Change { weight, state }) => Override {
                    weight: match weight {
                        Some(weight) if weight == config => None,
                        Some(weight) => Some(Weight {
                            set: weight,
                            instead_of: config,
                        }),
                        None => before.weight,
                    },
                    state: state.unwrap_or(before.state),
                },
            };
            let weight = set.weight.map_or(config, |weight| weight.set);
            if set.is_nothing() {
                after.remove(&name);
            } else {
                after.insert(name, set);
            }
            Changed {
                service: present.service.to_owned(),
                backend: present.backend.to_owned(),
                weight,
                state: set.state,
                is_new: (weight, set.state) != (present.weight, before.state),
            }
        })
        .collect();
    if act == Act::Reset {
        // Also what was set for backends that are gone, or one that is there again some day would
        // begin with it.
        after.retain(|(service, backend), _| !pattern.matches(service, backend));
    }
    (!changed.is_empty() || after != *overrides).then_some((changed, after))
}

/// The state that was set for a backend.
pub(super) fn state(overrides: &Overrides, service: &str, backend: &str) -> State {
    let name = (service.to_owned(), backend.to_owned());
    overrides.get(&name).map_or(State::Ready, |set| set.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::{actives, service};

    const BACKENDS: [(&str, u16); 3] = [("b1", 1), ("b2", 5), ("other", 1)];

    fn set(weight: Option<u16>, state: Option<State>) -> Act {
        Act::Set(Change { weight, state })
    }

    /// Acts one after the other; what the last one changed, and what is set then.
    fn acts(all: &[(&str, Act)]) -> (Vec<(String, u16, State, bool)>, Overrides) {
        let mut overrides = Overrides::new();
        let mut last = Vec::new();
        for (pattern, one) in all {
            let backends = BACKENDS.map(|(backend, weight)| {
                let name = ("web".to_owned(), backend.to_owned());
                let set = overrides.get(&name).and_then(|set| set.weight);
                (backend, set.map_or(weight, |set| set.set))
            });
            let present = backends.iter().map(|(backend, weight)| Present {
                service: "web",
                backend,
                weight: *weight,
            });
            let (changed, after) =
                act(present, &overrides, &pattern.parse().unwrap(), *one).unwrap();
            overrides = after;
            last = changed
                .into_iter()
                .map(|one| (one.backend, one.weight, one.state, one.is_new))
                .collect();
        }
        (last, overrides)
    }

    #[test]
    fn what_is_not_named_stays() {
        let (changed, _) = acts(&[
            ("web/b1", set(Some(7), None)),
            ("web/b1", set(None, Some(State::Drain))),
        ]);
        assert_eq!(changed, [("b1".into(), 7, State::Drain, true)]);
    }

    #[test]
    fn a_pattern_means_several_in_the_order_of_the_config() {
        let (changed, overrides) = acts(&[("w*/b*", set(Some(5), None))]);
        assert_eq!(
            changed,
            [
                ("b1".into(), 5, State::Ready, true),
                ("b2".into(), 5, State::Ready, false)
            ]
        );
        assert_eq!(overrides.len(), 1, "what the config says is not set");
        let none = act(
            std::iter::empty(),
            &overrides,
            &"x/y".parse().unwrap(),
            Act::Reset,
        );
        assert!(none.is_none());
    }

    #[test]
    fn a_reset_goes_back_to_the_config() {
        let (changed, overrides) = acts(&[
            ("web/*", set(Some(9), Some(State::Maint))),
            ("web/*", Act::Reset),
        ]);
        assert_eq!(
            changed,
            [
                ("b1".into(), 1, State::Ready, true),
                ("b2".into(), 5, State::Ready, true),
                ("other".into(), 1, State::Ready, true)
            ]
        );
        assert_eq!(overrides, Overrides::new());
    }

    #[test]
    fn the_config_wins_once_it_says_something_new() {
        let mut model = crate::config::parse(b"[agent]\ninterfaces = [\"eth0\"]\n")
            .unwrap()
            .model;
        let mut service = service(1, actives(&[1, 5]));
        service.name = "web".into();
        for (number, backend) in (1u8..).zip(&mut service.backends) {
            backend.name = format!("b{number}");
            backend.weight = [1, 5][usize::from(number == 2)];
        }
        model.services.push(service);
        let name = |backend: &str| ("web".to_owned(), backend.to_owned());
        let weight = |set, instead_of| Override {
            weight: Some(Weight { set, instead_of }),
            state: State::Ready,
        };
        let mut overrides = Overrides::from([
            (name("b1"), weight(7, 1)),
            (name("b2"), weight(7, 1)),
            (name("gone"), weight(7, 1)),
        ]);
        let told = apply(&mut model, &mut overrides);
        let weights: Vec<u16> = model.services[0]
            .backends
            .iter()
            .map(|backend| backend.weight)
            .collect();
        assert_eq!(weights, [7, 5]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("web/b2: the weight 7"), "{told:?}");
        assert!(overrides.contains_key(&name("gone")), "it may come back");
        assert!(!overrides.contains_key(&name("b2")));
        assert_eq!(configured_weight(overrides.get(&name("b1")), 7), 1);
    }
}
