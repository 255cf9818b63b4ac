//! What must hold before anything is done.

use std::{fmt, time::Duration};

use super::sql;
use crate::{
    gtid::Family,
    topology::{
        Channel, Health, NoReads, Primary, Reads, Role, ServerView, Settings, View, WantedRole,
    },
};

/// How long steps may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// For open transactions to end.
    pub hold: Duration,
    /// For the candidate to apply what it lacks.
    pub catch_up: Duration,
    /// For any other statement.
    pub statement: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(5),
            catch_up: Duration::from_secs(10),
            statement: Duration::from_secs(10),
        }
    }
}

/// Who replicas log in as at their source.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplicationAccount {
    /// The account's name.
    pub user: String,
    password: String,
}

impl ReplicationAccount {
    /// An account that may replicate.
    #[must_use]
    pub const fn new(user: String, password: String) -> Self {
        Self { user, password }
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for ReplicationAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicationAccount({:?}, …)", self.user)
    }
}

/// A view that plans are made from, with what it says of channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage<'a> {
    pub(super) settings: &'a Settings,
    pub(super) view: &'a View,
}

impl<'a> Stage<'a> {
    pub(super) fn server(&self, index: usize) -> &'a ServerView {
        &self.view.servers[index]
    }

    pub(super) fn named(&self, name: &str) -> Result<usize, String> {
        let mut servers = self.view.servers.iter();
        let names = || -> Vec<&str> { self.view.servers.iter().map(|one| &*one.name).collect() };
        servers
            .position(|server| &*server.name == name)
            .ok_or_else(|| {
                let names = names().join(", ");
                format!("there is no server \"{name}\" in the config (there are: {names})")
            })
    }

    /// The channel by which a server copies from another.
    pub(super) fn channel(&self, server: usize) -> Option<&'a Channel> {
        self.server(server).channel.as_ref()
    }

    /// Servers that copy from one, directly.
    pub(super) fn replicas_of(&self, source: usize) -> impl Iterator<Item = usize> {
        let all = self.view.servers.iter().enumerate();
        all.filter(move |(_, server)| server.source == Some(source))
            .map(|(index, _)| index)
    }

    /// What speaks against making a replica the primary, whatever became of the former one.
    pub(super) fn objections(&self, candidate: usize) -> Vec<String> {
        let server = self.server(candidate);
        let name = &server.name;
        let mut objections = Vec::new();
        if self.settings.servers[candidate].role == WantedRole::Replica {
            objections.push(format!("the config has role = \"replica\" for {name}"));
        }
        if let Health::Down(trouble) = &server.health {
            objections.push(format!("{name} is not reached: {trouble}"));
        }
        if server.role == Role::Primary {
            objections.push(format!("{name} is the primary already"));
        }
        match self.channel(candidate) {
            Some(channel) if !channel.by_gtid => objections.push(format!(
                "{name} does not replicate by GTID (SOURCE_AUTO_POSITION, MASTER_USE_GTID)"
            )),
            Some(channel) if !channel.sql_running => {
                objections.push(format!("the SQL thread of {name} is stopped"));
            }
            Some(_) | None => {}
        }
        if server.logs == Some(false) {
            objections.push(format!(
                "{name} has no binary log, so that nobody could replicate from it (log_bin)"
            ));
        }
        if server.executed.is_none() {
            objections.push(format!("{name} has no GTIDs"));
        }
        let odd = self
            .settings
            .servers
            .iter()
            .find(|one| !sql::can_be_quoted(&one.host));
        if let Some(odd) = odd {
            objections.push(format!("the address of {} has a backslash", odd.name));
        }
        objections
    }

    /// What speaks against doing so while the primary is there.
    pub(super) fn objections_to_switch(&self, candidate: usize) -> Vec<String> {
        let mut objections = self.objections(candidate);
        let Primary::Server(primary) = self.view.primary else {
            objections.push("there is no primary to switch from (is it a failover?)".to_owned());
            return objections;
        };
        if candidate == primary {
            return objections;
        }
        let server = self.server(candidate);
        let (name, from) = (&server.name, &self.server(primary).name);
        let older = self.view.servers.iter().find(|other| {
            let versions = other.version.as_ref().zip(server.version.as_ref());
            let release = |number: (u16, u16, u16)| (number.0, number.1);
            versions.is_some_and(|(other, own)| {
                other.family == own.family && release(other.number) < release(own.number)
            })
        });
        if let (Some(older), Some(own)) = (older, &server.version)
            && let Some(version) = &older.version
        {
            objections.push(format!(
                "{name} is {own} and {} is {version}: an older server may not understand what a \
                 newer one writes",
                older.name
            ));
        }
        if !self.view.rivals.is_empty() {
            objections.push("more than one server takes writes".to_owned());
        }
        if self.server(candidate).source != Some(primary) {
            objections.push(format!("{name} does not replicate from {from}"));
        }
        match &self.server(candidate).reads {
            Reads::No(why) if !matches!(why, NoReads::NoWeight) => {
                objections.push(format!("{name} is not fit: {why}"));
            }
            Reads::Yes { .. } | Reads::No(_) => {}
        }
        if let Some(own) = &server.own {
            objections.push(format!(
                "{name} has transactions that {from} does not have: {own}"
            ));
        }
        objections
    }

    pub(super) fn family(&self, server: usize) -> Family {
        let version = self.server(server).version.as_ref();
        version.map_or(Family::MySql, |version| version.family)
    }
}
