//! Backends that are discovered: kept over a restart, and made part of the config that runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::{Agent, state_file};
use crate::{
    config::Model,
    discovery::{
        News, Target,
        merge::{AllFound, merged},
    },
};

/// A larger file is none of ours.
const LARGEST: u64 = 256 << 20;

/// What is known of discovered backends.
#[derive(Debug)]
pub(super) struct Discovered {
    /// The config as the file says it, without them.
    file: Model,
    found: AllFound,
    /// By service, why its source does not answer, as it was told.
    failures: BTreeMap<String, String>,
    /// What was told to be left out.
    refused: BTreeSet<String>,
}

impl Discovered {
    /// With what was known at the end of the agent before; and the config with that.
    pub(super) fn begin(file: Model) -> (Self, Model) {
        let found = if Target::of(&file.services).is_empty() {
            AllFound::new()
        } else {
            load(&place(&file.agent.state_file))
        };
        let mut begun = Self {
            file,
            found,
            failures: BTreeMap::new(),
            refused: BTreeSet::new(),
        };
        let model = begun.model();
        (begun, model)
    }

    /// The config with what is known now.
    pub(super) fn model(&mut self) -> Model {
        let (model, refused) = merged(&self.file, &self.found);
        for sentence in refused.iter().filter(|one| !self.refused.contains(*one)) {
            tracing::warn!(kind = "discovery_refused", "{sentence}");
        }
        self.refused = refused.into_iter().collect();
        model
    }

    /// The same with another file.
    pub(super) fn model_of(&self, file: &Model) -> Model {
        merged(file, &self.found).0
    }

    /// Goes by another file from now on.
    pub(super) fn set_file(&mut self, file: Model) {
        self.found.retain(|name, _| {
            let mut services = file.services.iter();
            services.any(|service| service.name == *name && service.discovery.is_some())
        });
        self.file = file;
    }

    /// Where to look.
    pub(super) fn targets(&self) -> Vec<Target> {
        Target::of(&self.file.services)
    }

    /// Takes news in; says whether other backends are known now.
    fn note(&mut self, news: News) -> bool {
        let name = news.service.to_string();
        match news.found {
            Ok(found) => {
                if self.failures.remove(&name).is_some() {
                    tracing::info!(
                        kind = "discovery_back",
                        "service {name}: its backends are known again"
                    );
                }
                if self.found.get(&name) == Some(&found) {
                    return false;
                }
                self.found.insert(name, found);
                true
            }
            Err(sentence) => {
                if self.failures.get(&name) != Some(&sentence) {
                    let kept = self.found.get(&name).map_or(0, Vec::len);
                    tracing::warn!(
                        kind = "discovery_failed",
                        "service {name}: {sentence}; the {kept} backends that were discovered \
                         before stay"
                    );
                    self.failures.insert(name, sentence);
                }
                false
            }
        }
    }
}

impl Agent {
    /// Takes news of discovered backends in, and goes on with them. Says whether the tables may
    /// have to change.
    pub(super) fn note_discovered(&mut self, news: News) -> bool {
        let name = news.service.to_string();
        if !self.discovered.note(news) {
            return false;
        }
        let model = self.discovered.model();
        let file = place(&model.agent.state_file);
        let links = self.links.clone();
        match self.change_over(model, &links) {
            Ok((changes, _)) => {
                let (addresses, generation) = {
                    let core = self.lock();
                    (core.addresses(), core.generation)
                };
                self.resolver.set_addresses(addresses);
                self.check_anew();
                tracing::info!(
                    kind = "discovered",
                    "service {name}: discovered: {} (generation {generation})",
                    in_short(&changes)
                );
                if let Err(error) = save(&file, &self.discovered.found) {
                    tracing::warn!(
                        "cannot write {}: {error}; a restart would not know the discovered backends",
                        file.display()
                    );
                }
                true
            }
            Err(refusal) => {
                tracing::error!(
                    kind = "discovery_refused",
                    "service {name}: what was discovered cannot be taken: {}",
                    refusal.sentence
                );
                false
            }
        }
    }
}

fn in_short(changes: &[String]) -> String {
    const MOST: usize = 5;
    match changes {
        [] => "nothing has changed".to_owned(),
        all if all.len() <= MOST => all.join("; "),
        all => format!("{}; and {} more", all[..MOST].join("; "), all.len() - MOST),
    }
}

/// Beside the state file.
fn place(state_file: &Path) -> PathBuf {
    state_file.with_extension("discovered.json")
}

/// What is not there or not to be understood is found anew.
fn load(file: &Path) -> AllFound {
    let read = || -> io::Result<AllFound> {
        if fs::metadata(file)?.len() > LARGEST {
            return Err(io::Error::other("it is too large"));
        }
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    };
    read().unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(
                "{} is of no use ({error}); backends are discovered anew",
                file.display()
            );
        }
        AllFound::new()
    })
}

fn save(file: &Path, found: &AllFound) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(found)?;
    text.push(b'\n');
    state_file::replace(file, &text)
}
