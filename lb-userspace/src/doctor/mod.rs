//! `lb doctor`: what makes a balancer run and forward nothing, each with its cure.
//!
//! A probe is a gatherer, which asks the system and decides nothing, and a judge, which is given the
//! facts and asks nobody. No agent is needed; one that runs is asked as well.

mod agent;
mod app_host;
mod backends;
mod check_lane;
mod ethtool;
mod filtering;
mod firewall;
mod host;
mod intercept;
mod interfaces;
mod irqs;
mod memory;
mod mysql;
mod namespaces;
mod offloads;
mod ping;
mod report;
mod vips;

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{
    admin::client,
    config::model::Model,
    next_hop::{self, Link, Way},
    status::Status,
};

pub use report::{Finding, Report, Severity};

/// The agent, as far as it answers.
enum Running {
    /// Nobody is there.
    No,
    /// It says why it does not answer.
    Silent(String),
    /// It answers.
    Yes(Box<Status>),
}

/// Looks at this host, and at the agent if one runs. Without a config, only at what does not take
/// one.
///
/// # Errors
/// When the kernel does not tell about its interfaces.
pub fn examine(config: Option<(&Path, &Model)>, socket: &Path) -> io::Result<Report> {
    let mut findings = Vec::new();
    let status = client::status(socket);
    let running = match status {
        Ok(status) => Running::Yes(Box::new(status)),
        Err(client::Error::NoAgent { .. }) => Running::No,
        Err(error) => Running::Silent(error.to_string()),
    };
    let model = config.map(|(_, model)| model);
    if model.is_none_or(Model::loads_programs) {
        findings.extend(host::judge(&host::gather(model)));
    }
    let Some((file, model)) = config else {
        return Ok(Report { findings });
    };
    let status = match &running {
        Running::Yes(status) => Some(&**status),
        Running::No | Running::Silent(_) => None,
    };
    let half_open = status.map_or_else(BTreeMap::new, |_| agent::half_open(socket));
    let facts = agent::Facts {
        file,
        model,
        running: &running,
        socket,
        left_behind: crate::dataplane::left_behind(&model.agent.pin_path),
        half_open: &half_open,
    };
    findings.extend(agent::judge(&facts));

    let backends: Vec<IpAddr> = addresses(model);
    let vips: Vec<IpAddr> = model.services.iter().map(|one| one.address).collect();
    let answering = ping::ask(&backends);
    let (links, ways) = look(&backends, &vips)?;
    let is_left = facts.left_behind.is_some();
    findings.extend(interfaces::judge(model, &links, &ways, (status, is_left)));
    findings.extend(check_lane::judge(model, &links, status));
    findings.extend(check_lane::unheard(model, &links, &ways));
    let gathered = offloads::gather(&model.agent.interfaces, &links);
    findings.extend(offloads::judge(&gathered, &links));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let queues = irqs::gather(Path::new("/"), &model.agent.interfaces, cpus);
    findings.extend(irqs::judge(&queues));
    if model.steers() {
        let process = status.map(|status| status.agent.pid);
        let memory = memory::gather(Path::new("/"), process, &model.limits);
        findings.extend(memory::judge(&memory));
        findings.extend(filtering::judge(&filtering::gather()));
        findings.extend(firewall::judge(model, &firewall::gather()));
    }
    findings.extend(vips::judge(model, &ways, status));
    findings.extend(backends::judge(model, &ways, answering.as_ref(), status));
    if let Some(app_host) = &model.app_host {
        findings.extend(app_host::judge(app_host, &app_host::gather(app_host)));
    }
    if let Some(proxy) = &model.mysql {
        findings.extend(mysql::judge(proxy, status));
        if let Some(wanted) = &proxy.intercept {
            findings.extend(intercept::judge(intercept::gather(wanted), status));
        }
    }
    Ok(Report { findings })
}

/// Of all backends, each once.
fn addresses(model: &Model) -> Vec<IpAddr> {
    let backends = model.services.iter().flat_map(|one| &one.backends);
    let mut list: Vec<IpAddr> = backends.map(|backend| backend.address).collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// The interfaces, and the ways to backends and VIPs.
fn look(backends: &[IpAddr], vips: &[IpAddr]) -> io::Result<(Vec<Link>, BTreeMap<IpAddr, Way>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let links = next_hop::links().await?;
        let all = backends.iter().chain(vips).copied();
        Ok((links, next_hop::ways(all).await?))
    })
}

/// The config of a running agent: the file it was started with.
#[must_use]
pub fn config_of_the_agent(socket: &Path) -> Option<PathBuf> {
    let status = client::status(socket).ok()?;
    Some(PathBuf::from(status.agent.config_file))
}
