//! What `lb status --json` says, read by the names of the contract.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A status.
#[derive(Clone)]
pub struct Status(Value);

/// A service or a backend in it.
#[derive(Clone, Copy)]
pub struct Entry<'a>(&'a Value);

/// As it was written, but on one line.
impl fmt::Debug for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// As it was written, but on one line.
impl fmt::Debug for Entry<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, formatter)
    }
}

impl Status {
    /// Reads the JSON document.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(
            serde_json::from_str(text).context("the status is no JSON document")?,
        ))
    }

    /// The service of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn service(&self, name: &str) -> Result<Entry<'_>> {
        named(&self.0, "services", name)
    }

    /// The backend of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn backend(&self, service: &str, name: &str) -> Result<Entry<'_>> {
        named(self.service(service)?.0, "backends", name)
    }

    /// Whether all other balancers are there.
    ///
    /// # Errors
    /// When there is no such list.
    pub fn is_peer_up(&self) -> Result<bool> {
        let peers = self.0["cluster"]["peers"].as_array();
        let peers = peers.context("no peers")?;
        Ok(peers.iter().all(|peer| peer["up"] == true))
    }

    /// How long a list is of what is known of other balancers.
    ///
    /// # Errors
    /// When there is none.
    pub fn cluster_list(&self, name: &str) -> Result<usize> {
        let list = self.0["cluster"][name].as_array();
        Ok(list.with_context(|| format!("no {name}"))?.len())
    }

    /// A part of what is known of other balancers, by its JSON pointer, such as `/flows/inserted`.
    ///
    /// # Errors
    /// When there is none.
    pub fn cluster(&self, pointer: &str) -> Result<u64> {
        let found = self.0["cluster"].pointer(pointer).and_then(Value::as_u64);
        found.with_context(|| format!("no {pointer} in {}", self.0["cluster"]))
    }

    /// The interfaces and how steering is attached there, as `name mode`.
    ///
    /// # Errors
    /// When there is no such list.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        let list = self
            .0
            .get("interfaces")
            .and_then(Value::as_array)
            .context("no interfaces")?;
        list.iter()
            .map(Entry)
            .map(|entry| {
                Ok(format!(
                    "{} {}",
                    entry.text("name")?,
                    entry.text("xdp_mode")?
                ))
            })
            .collect()
    }

    /// The programs that are attached, by interface.
    ///
    /// # Errors
    /// When there is no such list.
    pub fn program_ids(&self) -> Result<Vec<u64>> {
        let list = self.0.get("interfaces").and_then(Value::as_array);
        let list = list.context("no interfaces")?.iter().map(Entry);
        list.map(|entry| entry.number("program_id")).collect()
    }

    /// How often a verdict was given.
    ///
    /// # Errors
    /// When there is no such verdict.
    pub fn verdict(&self, label: &str) -> Result<u64> {
        self.0
            .get("verdicts")
            .and_then(|verdicts| verdicts.get(label)?.as_u64())
            .with_context(|| format!("no verdict {label}"))
    }

    /// What it says of the app host.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn app_host(&self) -> Result<AppHost<'_>> {
        self.0.get("app_host").map(AppHost).context("no app host")
    }

    /// How often something happened to flows.
    ///
    /// # Errors
    /// When there is no such event.
    pub fn event(&self, label: &str) -> Result<u64> {
        self.0
            .get("events")
            .and_then(|events| events.get(label)?.as_u64())
            .with_context(|| format!("no event {label}"))
    }

    /// The flow table of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn flow_table(&self, name: &str) -> Result<Entry<'_>> {
        named(&self.0, "flow_tables", name)
    }

    /// The sum of all verdicts: every packet seen.
    ///
    /// # Errors
    /// When there are none.
    pub fn verdicts(&self) -> Result<u64> {
        let verdicts = self
            .0
            .get("verdicts")
            .and_then(Value::as_object)
            .context("no verdicts")?;
        let counts = verdicts
            .values()
            .map(|count| count.as_u64().context("no number"));
        counts.sum()
    }

    /// Checks that nothing was dropped.
    ///
    /// # Errors
    /// When something was, with what.
    pub fn expect_no_drops(&self) -> Result<()> {
        let verdicts = self
            .0
            .get("verdicts")
            .and_then(Value::as_object)
            .context("no verdicts")?;
        let drops = verdicts
            .iter()
            .filter(|(label, _)| label.starts_with("drop_"));
        for (label, count) in drops {
            ensure!(count.as_u64() == Some(0), "{label} is {count}");
        }
        Ok(())
    }

    /// The process number of the agent.
    ///
    /// # Errors
    /// When it is missing.
    pub fn pid(&self) -> Result<u64> {
        Entry(self.0.get("agent").context("no agent")?).number("pid")
    }
}

/// An app host in a status.
#[derive(Clone, Copy, Debug)]
pub struct AppHost<'a>(&'a Value);

impl AppHost<'_> {
    /// How often a verdict was given.
    ///
    /// # Errors
    /// When there is no such verdict.
    pub fn verdict(&self, label: &str) -> Result<u64> {
        self.0
            .get("verdicts")
            .and_then(|verdicts| verdicts.get(label)?.as_u64())
            .with_context(|| format!("no verdict {label}"))
    }

    /// The interfaces and how decapsulation is attached there, as `name mode`.
    ///
    /// # Errors
    /// When there is no such list.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        let list = self.0.get("interfaces").and_then(Value::as_array);
        list.context("no interfaces")?
            .iter()
            .map(Entry)
            .map(|entry| {
                let (name, mode) = (entry.text("name")?, entry.text("xdp_mode")?);
                Ok(format!("{name} {mode}").trim_end().to_owned())
            })
            .collect()
    }

    /// The VIPs that are on `lo`.
    ///
    /// # Errors
    /// When there is no such list.
    pub fn vips_on_lo(&self) -> Result<Vec<String>> {
        let list = self.0.get("vips").and_then(Value::as_array);
        let mut vips = Vec::new();
        for vip in list.context("no vips")?.iter().map(Entry) {
            if vip.is("on_lo")? {
                vips.push(vip.text("address")?.to_owned());
            }
        }
        Ok(vips)
    }
}

impl<'a> Entry<'a> {
    /// A number.
    ///
    /// # Errors
    /// When there is none under this key.
    pub fn number(&self, key: &str) -> Result<u64> {
        self.0
            .get(key)
            .and_then(Value::as_u64)
            .with_context(|| format!("no number {key}"))
    }

    /// A number with a fraction.
    ///
    /// # Errors
    /// When there is none under this key.
    pub fn real(&self, key: &str) -> Result<f64> {
        self.0
            .get(key)
            .and_then(Value::as_f64)
            .with_context(|| format!("no number {key}"))
    }

    /// An object in it.
    ///
    /// # Errors
    /// When there is none under this key.
    pub fn entry(&self, key: &str) -> Result<Self> {
        let found = self.0.get(key).filter(|value| value.is_object());
        found.map(Entry).with_context(|| format!("no object {key}"))
    }

    /// A text; empty where there is `null`.
    ///
    /// # Errors
    /// When there is none under this key.
    pub fn text(&self, key: &str) -> Result<&'a str> {
        match self.0.get(key) {
            Some(Value::Null) => Ok(""),
            other => other
                .and_then(Value::as_str)
                .with_context(|| format!("no text {key}")),
        }
    }

    /// Whether it is so.
    ///
    /// # Errors
    /// When neither yes nor no is under this key.
    pub fn is(&self, key: &str) -> Result<bool> {
        self.0
            .get(key)
            .and_then(Value::as_bool)
            .with_context(|| format!("no answer {key}"))
    }

    /// A number of each of its backends, in the order of the config.
    ///
    /// # Errors
    /// When one has none.
    pub fn each(&self, key: &str) -> Result<Vec<u64>> {
        let list = self
            .0
            .get("backends")
            .and_then(Value::as_array)
            .context("no backends")?;
        list.iter()
            .map(|backend| Entry(backend).number(key))
            .collect()
    }

    /// Whether so many of its backends are in rotation.
    ///
    /// # Errors
    /// When it are more or fewer.
    pub fn expect_in_rotation(&self, count: usize) -> Result<()> {
        let list = self
            .0
            .get("backends")
            .and_then(Value::as_array)
            .context("no backends")?;
        let mut found = 0;
        for backend in list {
            found += usize::from(Entry(backend).is("in_rotation")?);
        }
        ensure!(
            found == count,
            "{found} and not {count} backends are in rotation: {self:?}"
        );
        Ok(())
    }

    /// Checks a number of the service and of each of its backends.
    ///
    /// # Errors
    /// When they are otherwise.
    pub fn expect(&self, key: &str, each: &[u64]) -> Result<()> {
        let found = self.each(key)?;
        ensure!(
            found == each,
            "{key} of the backends is {found:?} and not {each:?}"
        );
        let (own, sum) = (self.number(key)?, each.iter().sum::<u64>());
        ensure!(own == sum, "{key} of the service is {own} and not {sum}");
        Ok(())
    }
}

fn named<'a>(value: &'a Value, list: &str, name: &str) -> Result<Entry<'a>> {
    let entries = value
        .get(list)
        .and_then(Value::as_array)
        .with_context(|| format!("no {list}"))?;
    entries
        .iter()
        .find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
        .map(Entry)
        .with_context(|| format!("there is no {name} among the {list}"))
}
