//! The reference deployment: www.foobar.com as `lb-userspace/docs/foobar.md` draws it, in
//! namespaces of this machine and out of real parts, and the story that shows that it works.

mod agent;
mod app;
mod balancers;
mod certificate;
mod client;
mod database;
mod flood;
mod monitor;
mod network;
mod patience;
mod proxy;
pub mod story;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::lab::Lab;

pub use agent::Agent;
pub use app::AppHost;
pub use balancers::Balancer;
pub use client::{Answer, Client};
pub use database::Database;
pub use monitor::Monitor;
pub use network::VIP;

use certificate::Authority;

/// The name of the site.
pub const NAME: &str = "www.foobar.com";

/// What is to be built.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary under test.
    pub lb: PathBuf,
    /// `agent.xdp_mode` of the balancers: `auto`, `native` or `generic`.
    pub xdp_mode: String,
    /// The second app host only serves while the first is down (`role = "backup"`).
    pub active_passive: bool,
}

/// Whom it is told to, and who may stop it.
#[derive(Clone, Copy)]
pub struct Audience<'a> {
    /// Hears of a step that is done, and when it began.
    pub done: &'a dyn Fn(&str, Instant),
    /// Hears what was seen within a step.
    pub seen: &'a dyn Fn(&str),
    /// An error when somebody asked to stop.
    pub go_on: &'a dyn Fn() -> Result<()>,
}

/// The running deployment; dropping it stops and removes it all.
#[derive(Debug)]
pub struct Foobar {
    /// What it was built as.
    pub options: Options,
    /// Who asks for pages.
    pub client: Client,
    /// `lb1` and `lb2`.
    pub balancers: Vec<Balancer>,
    /// `app1` and `app2`.
    pub apps: Vec<AppHost>,
    /// The agents of `app1` and `app2`, which the application talks to as its database.
    pub proxies: Vec<Agent>,
    /// `db1` on `app1`, first the primary, and `db2` on `app2`.
    pub databases: Vec<Database>,
    /// Prometheus.
    pub monitor: Monitor,
    authority: Authority,
    /// The namespaces; the last to go.
    pub lab: Lab,
}

impl Foobar {
    /// Builds it in an empty lab and waits until pages are served.
    ///
    /// # Errors
    /// When a part does not start; the message has its log.
    pub fn start(mut lab: Lab, options: Options, audience: Audience<'_>) -> Result<Self> {
        let began = Instant::now();
        network::wire(&mut lab)?;
        (audience.done)(
            &format!("network namespaces: {}", network::NAMESPACES.join(", ")),
            began,
        );
        let authority = Authority::create(&lab)?;
        // It takes five seconds until it looks at anything.
        let monitor = Monitor::start(&lab, &authority)?;

        let began = Instant::now();
        let client = Client::start(&lab, &authority)?;
        (audience.done)(&format!("DNS at the client: {NAME} is {VIP}"), began);

        let began = Instant::now();
        let pair = authority.issue(NAME, &[NAME], certificate::YEAR)?;
        let apps = (1..=network::APPS)
            .map(|number| {
                (audience.go_on)()?;
                AppHost::start(&lab, number, &pair)
            })
            .collect::<Result<Vec<_>>>()?;
        (audience.done)(
            "app1, app2: nginx with TLS, PHP-FPM, the application",
            began,
        );

        let began = Instant::now();
        let databases = database::start_pair(&lab, &authority)?;
        (audience.done)(
            "db1 on app1, its replica db2 on app2: MariaDB with TLS",
            began,
        );

        let began = Instant::now();
        let passwords = database::write_passwords(&lab)?;
        let proxies = (1..=network::APPS)
            .map(|number| proxy::start(&lab, &options, number, (&authority, &passwords)))
            .collect::<Result<Vec<_>>>()?;
        (audience.done)("app1, app2: lb, as the application's database", began);

        let began = Instant::now();
        let balancers = (1..=network::BALANCERS)
            .map(|number| {
                (audience.go_on)()?;
                Balancer::start(&lab, &options, number, &authority)
            })
            .collect::<Result<Vec<_>>>()?;
        let foobar = Self {
            options,
            client,
            balancers,
            apps,
            proxies,
            databases,
            monitor,
            authority,
            lab,
        };
        foobar.await_ready()?;
        (audience.done)("lb1, lb2: lb, and keepalived with the VIP on lb1", began);
        let began = Instant::now();
        foobar.monitor.await_scraped()?;
        (audience.done)("monitor: Prometheus, which scrapes all four agents", began);
        Ok(foobar)
    }

    /// The balancer that holds the VIP, counted from 0.
    ///
    /// # Errors
    /// When none has it, or both.
    pub fn active(&self) -> Result<usize> {
        balancers::active(&self.lab, &self.balancers)
    }

    fn await_ready(&self) -> Result<()> {
        for balancer in &self.balancers {
            balancer.await_health("app1", "up")?;
            balancer.await_health("app2", "up")?;
        }
        patience::await_until(patience::LONG, "one balancer has the VIP", || {
            self.active().map(drop)
        })
    }

    /// Where the commands are that mean something else in each namespace.
    #[must_use]
    pub fn commands_folder(lab: &Lab, namespace: &str) -> PathBuf {
        lab.folder().join(format!("bin-{namespace}"))
    }
}

/// Puts a command in a namespace's folder of them.
fn write_command(lab: &Lab, namespace: &str, name: &str, text: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let folder = Foobar::commands_folder(lab, namespace);
    fs::create_dir_all(&folder)?;
    let file = folder.join(name);
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}
