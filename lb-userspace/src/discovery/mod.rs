//! Backends that come from elsewhere than the config file: from DNS or from etcd.
//!
//! A [`Discoverer`] asks and tells; what becomes of it is its reader's business. What was told last
//! stays true while nobody answers.

mod dns;
pub(crate) mod etcd;
pub mod merge;
pub mod told;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::Sender,
    task::{AbortHandle, JoinSet},
};

use self::merge::AllFound;
use crate::config::model::{self, Discovery, Role};

/// How soon a source is asked again that did not answer, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// A backend as its source tells it; what is not there is the service's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Found {
    /// Unique within the source's answer.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its weight, 1 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Whether it is one for emergencies.
    #[serde(default)]
    pub is_backup: bool,
}

impl Found {
    /// Its role.
    #[must_use]
    pub const fn role(&self) -> Role {
        if self.is_backup {
            Role::Backup
        } else {
            Role::Active
        }
    }
}

/// What a source said about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Name of the service.
    pub service: Arc<str>,
    /// Its backends, sorted; or why they are not known, in a sentence.
    pub found: Result<Vec<Found>, String>,
}

/// Whose backends are to be found.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Name of the service.
    pub service: Arc<str>,
    /// Where.
    pub discovery: Discovery,
    /// Addresses of which families would do: IPv4, IPv6.
    pub families: (bool, bool),
}

impl Target {
    /// Those of a config.
    pub fn of(services: &[model::Service]) -> Vec<Self> {
        services
            .iter()
            .filter_map(|service| {
                let discovery = service.discovery.clone()?;
                let crosses = merge::may_cross(service);
                let is_v4 = service.address.is_ipv4();
                Some(Self {
                    service: service.name.as_str().into(),
                    discovery,
                    families: (is_v4 || crosses, !is_v4 || crosses),
                })
            })
            .collect()
    }
}

/// Looks for backends until it is dropped.
#[derive(Debug)]
pub struct Discoverer {
    watched: HashMap<Arc<str>, (Target, AbortHandle)>,
    tasks: JoinSet<()>,
    news: Sender<News>,
}

impl Discoverer {
    /// Looks for nothing yet.
    #[must_use]
    pub fn new(news: Sender<News>) -> Self {
        Self {
            watched: HashMap::new(),
            tasks: JoinSet::new(),
            news,
        }
    }

    /// Looks for the backends of these services from now on. What is looked for in the same way as
    /// before goes on undisturbed; another begins with what is known of it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn set_targets(&mut self, targets: Vec<Target>, known: &AllFound) {
        while self.tasks.try_join_next().is_some() {}
        let mut before = std::mem::take(&mut self.watched);
        for target in targets {
            let name = Arc::clone(&target.service);
            let watched = match before.remove(&name) {
                Some(known) if known.0 == target => known,
                other => {
                    if let Some((_, task)) = other {
                        task.abort();
                    }
                    let known = known.get(&*name).cloned().unwrap_or_default();
                    let watching = watch(target.clone(), known, self.news.clone());
                    let task = self.tasks.spawn(watching);
                    (target, task)
                }
            };
            self.watched.insert(name, watched);
        }
        for (_, task) in before.into_values() {
            task.abort();
        }
    }
}

async fn watch(target: Target, known: Vec<Found>, news: Sender<News>) {
    let Target {
        service,
        discovery,
        families,
    } = target;
    match discovery.source {
        model::DiscoverySource::Dns(query) => {
            dns::watch(&service, &query, families, discovery.most, &known, &news).await;
        }
        model::DiscoverySource::Etcd(range) => {
            etcd::watch(&service, &range, discovery.most, known, &news).await;
        }
    }
}

/// A pause of about that length: agents that lost their source together come back one by one.
fn about(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + fastrand::f64() / 2.0)
}

/// What was told of an answer that is not as it should be; each sentence is told once, until it is
/// not true any more.
#[derive(Debug, Default)]
struct Remarks(BTreeSet<String>);

impl Remarks {
    /// Sentences of one answer that are told.
    const MOST: usize = 5;

    fn tell(&mut self, service: &str, remarks: Vec<String>) {
        let remarks: BTreeSet<String> = remarks.into_iter().collect();
        let mut new = remarks.difference(&self.0);
        for sentence in new.by_ref().take(Self::MOST) {
            tracing::warn!(kind = "discovery_refused", "service {service}: {sentence}");
        }
        match new.count() {
            0 => {}
            more => tracing::warn!("service {service}: and {more} more of that kind"),
        }
        self.0 = remarks;
    }
}

/// Tells what was found; says whether anybody listens.
async fn tell(news: &Sender<News>, service: &Arc<str>, found: Result<Vec<Found>, String>) -> bool {
    let service = Arc::clone(service);
    news.send(News { service, found }).await.is_ok()
}
