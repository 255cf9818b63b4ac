//! Backends that are discovered: kept over a restart, and made part of the config that runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::timeout_at};

use super::{Agent, state_file};
use crate::{
    config::{Model, model::Service},
    discovery::{
        Discoverer, Found, News, Target,
        merge::{AllFound, merged, useless},
        told::{Line, Told},
    },
};

/// A larger file is none of ours.
const LARGEST: u64 = 256 << 20;
/// How long the start waits for the first answers.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// News that may wait for the agent.
const NEWS: usize = 64;
/// Refusals that are told at a time.
const MOST_LINES: usize = 5;

/// What is known of discovered backends.
#[derive(Debug, Default)]
pub(super) struct Discovered {
    /// The config as the file says it, without them; nothing if no service asks for any.
    file: Option<Model>,
    found: AllFound,
    /// What was told of sources.
    told: Told,
    /// What was told to be left out.
    refused: BTreeSet<String>,
    /// By service, what the tables have no room for.
    too_much: BTreeMap<String, Vec<Found>>,
    is_unsaved: bool,
}

/// Backends that are looked for.
pub(super) struct Discovering {
    pub(super) discovered: Discovered,
    pub(super) discoverer: Discoverer,
    pub(super) news: mpsc::Receiver<News>,
}

/// Whether a service of the config has backends that are to be discovered.
fn asks(file: &Model) -> bool {
    file.services.iter().any(|one| one.discovery.is_some())
}

impl Discovering {
    /// Looks, and waits a little for answers of which nothing was known at the end of the agent
    /// before; then the config with what is known.
    pub(super) async fn begin(file: Model) -> (Self, Model) {
        let (sender, news) = mpsc::channel(NEWS);
        let mut begun = Self {
            discovered: Discovered::default(),
            discoverer: Discoverer::new(sender),
            news,
        };
        if !asks(&file) {
            return (begun, file);
        }
        let discovered = &mut begun.discovered;
        discovered.found = load(&place(&file.agent.state_file));
        discovered.set_file(Some(file.clone()));
        begun
            .discoverer
            .set_targets(discovered.targets(), &discovered.found);
        begun.first_answers().await;
        let model = begun.discovered.model().unwrap_or(file);
        (begun, model)
    }

    async fn first_answers(&mut self) {
        let targets = self.discovered.targets();
        let mut open: BTreeSet<Arc<str>> = targets.into_iter().map(|one| one.service).collect();
        open.retain(|name| self.discovered.found.get(&**name).is_none_or(Vec::is_empty));
        let end = Instant::now() + FIRST_WAIT;
        let mut is_new = false;
        while !open.is_empty() {
            let Ok(Some(news)) = timeout_at(end.into(), self.news.recv()).await else {
                break;
            };
            open.remove(&news.service);
            is_new |= self.discovered.note(news);
        }
        for name in open {
            tracing::warn!(
                kind = "discovery_failed",
                service = &*name,
                "service {name}: its backends are not known yet, because their source has not \
                 answered within {} s; the start goes on without them",
                FIRST_WAIT.as_secs()
            );
        }
        if is_new {
            self.discovered.save();
        }
    }
}

impl Discovered {
    /// The config with what is known now, if a service asks for that.
    fn model(&mut self) -> Option<Model> {
        let (model, refused) = merged(self.file.as_ref()?, &self.found);
        let refused: BTreeSet<String> = refused.into_iter().collect();
        let mut new = refused.difference(&self.refused);
        for sentence in new.by_ref().take(MOST_LINES) {
            tracing::warn!(kind = "discovery_refused", "{sentence}");
        }
        match new.count() {
            0 => {}
            more => tracing::warn!("{more} more backends that were discovered are left out"),
        }
        self.refused = refused;
        Some(model)
    }

    /// A file and the config with what is known now; the file alone only if a service asks for that.
    pub(super) fn next(&self, file: Model) -> (Option<Model>, Model) {
        if asks(&file) {
            let model = merged(&file, &self.found).0;
            (Some(file), model)
        } else {
            (None, file)
        }
    }

    /// Goes by another file from now on.
    pub(super) fn set_file(&mut self, file: Option<Model>) {
        let asking: BTreeSet<&str> = file
            .iter()
            .flat_map(|file| &file.services)
            .filter(|service| service.discovery.is_some())
            .map(|service| &*service.name)
            .collect();
        self.found.retain(|name, _| asking.contains(&**name));
        self.told.retain(|name| asking.contains(name));
        // There may be room now.
        self.too_much.clear();
        let place_of = |file: &Option<Model>| Some(place(&file.as_ref()?.agent.state_file));
        let moves = self.file.is_some() && place_of(&self.file) != place_of(&file);
        self.file = file;
        if moves {
            self.save();
        }
    }

    /// Where to look.
    pub(super) fn targets(&self) -> Vec<Target> {
        let file = self.file.as_ref();
        file.map_or_else(Vec::new, |file| Target::of(&file.services))
    }

    /// What is known.
    pub(super) const fn found(&self) -> &AllFound {
        &self.found
    }

    /// Takes news in; says whether other backends are known now.
    fn note(&mut self, news: News) -> bool {
        let name = news.service.to_string();
        let Some(file) = &self.file else {
            return false;
        };
        let is_asking = |one: &Service| one.name == name && one.discovery.is_some();
        if !file.services.iter().any(is_asking) {
            return false;
        }
        let found = news
            .found
            .and_then(|found| match useless(file, &name, &found) {
                Some(reason) => Err(format!("nothing of the answer can be used: {reason}")),
                None => Ok(found),
            });
        match found {
            Ok(found) => {
                let line = self.told.answered(&name, Instant::now());
                if line != Line::Nothing {
                    tracing::info!(
                        kind = "discovery_back",
                        service = name,
                        "service {name}: its backends are known again{}",
                        more(line)
                    );
                }
                if self.found.get(&name) == Some(&found) || self.too_much.get(&name) == Some(&found)
                {
                    return false;
                }
                self.found.insert(name, found);
                true
            }
            Err(sentence) => {
                let line = self.told.failed(&name, &sentence, Instant::now());
                let kept = match self.found.get(&name).map_or(0, Vec::len) {
                    0 => "none was discovered before".to_owned(),
                    kept => format!("the {kept} backends that were discovered before stay"),
                };
                if line == Line::Nothing {
                    tracing::debug!("service {name}: {sentence}; {kept}");
                } else {
                    tracing::warn!(
                        kind = "discovery_failed",
                        service = name,
                        "service {name}: {sentence}; {kept}{}",
                        more(line)
                    );
                }
                false
            }
        }
    }

    /// Goes back to what was known before, because there is no room for more.
    fn give_back(&mut self, name: String, before: Option<Vec<Found>>) {
        let found = match before {
            Some(before) => self.found.insert(name.clone(), before),
            None => self.found.remove(&name),
        };
        self.too_much.extend(found.map(|found| (name, found)));
    }

    /// Keeps what is known for the next start.
    fn save(&mut self) {
        let Some(model) = &self.file else {
            return;
        };
        let file = place(&model.agent.state_file);
        match (state_file::write_json(&file, &self.found), self.is_unsaved) {
            (Ok(()), true) => {
                self.is_unsaved = false;
                tracing::info!("{} is written again", file.display());
            }
            (Err(error), false) => {
                self.is_unsaved = true;
                tracing::warn!(
                    "cannot write {}: {error}; until that works a restart would not know the \
                     backends that were discovered",
                    file.display()
                );
            }
            (Ok(()), false) | (Err(_), true) => {}
        }
    }

    /// Tries again what could not be written.
    pub(super) fn save_again(&mut self) {
        if self.is_unsaved {
            self.save();
        }
    }
}

/// What is said of what is not said.
const fn more(line: Line) -> &'static str {
    match line {
        Line::LastOfMany => " (its source comes and goes; for a minute no more is said of that)",
        Line::Nothing | Line::Change => "",
    }
}

impl Agent {
    /// Takes news of discovered backends in, and goes on with them. Says whether the tables may
    /// have to change.
    pub(super) fn note_discovered(&mut self, news: News) -> bool {
        let name = news.service.to_string();
        let before = self.discovered.found.get(&name).cloned();
        if !self.discovered.note(news) {
            return false;
        }
        let Some(mut model) = self.discovered.model() else {
            return false;
        };
        // What was applied since is not in the file that was read.
        model.firewall = self.lock().model.firewall.clone();
        let links = self.links.clone();
        let changed = self.change_over(model, &links);
        self.follow_moved();
        match changed {
            Ok(changes) => {
                let generation = self.lock().generation;
                self.follow_ways();
                self.check_anew();
                tracing::info!(
                    kind = "discovered",
                    service = name,
                    "service {name}: discovered: {} (generation {generation})",
                    in_short(&changes)
                );
                self.discovered.save();
                true
            }
            Err(refusal) => {
                self.discovered.give_back(name.clone(), before);
                tracing::error!(
                    kind = "discovery_refused",
                    service = name,
                    "service {name}: what was discovered cannot be taken: {}; what was known before \
                     stays",
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
    state_file::read_json(file, LARGEST).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            let kept = state_file::set_aside(file);
            tracing::warn!(
                "{} is damaged ({error}); {kept}, and backends are discovered anew",
                file.display()
            );
        }
        AllFound::new()
    })
}
