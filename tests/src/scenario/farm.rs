//! The stage of most scenarios: a routed lab, web servers, the agent.

use anyhow::Result;
use lb_lab::{Lab, Nginx, Routed, VIP4};

use super::{Agent, Config, Mode, Service, routed_backends};

/// The port of the web servers.
const BACKEND_PORT: u16 = 8080;

/// A routed lab with nginx on each server and an agent. The fields are dropped in this order.
#[derive(Debug)]
pub struct Farm {
    /// The agent.
    pub agent: Agent,
    /// The web servers `web1`, `web2`, ….
    pub servers: Vec<Nginx>,
    /// The lab.
    pub lab: Routed,
}

impl Farm {
    /// The service `web` on port 80 of the IPv4 VIP.
    #[must_use]
    pub fn web(servers: u8) -> Service {
        Service::tcp(
            "web",
            VIP4,
            80,
            routed_backends(VIP4, servers, BACKEND_PORT),
        )
    }

    /// With the service `web` on three servers.
    ///
    /// # Errors
    /// When something does not start.
    pub fn of_three(mode: Mode) -> Result<Self> {
        Self::start(mode, 3, |config| config.service(Self::web(3)))
    }

    /// With so many servers, and a config that `finish` completes.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(mode: Mode, servers: u8, finish: impl FnOnce(Config) -> Config) -> Result<Self> {
        let lab = Self::wired(mode, servers)?;
        let servers = Self::nginx(&lab)?;
        let agent = Agent::start(&lab, &finish(Self::config(&lab, mode)))?;
        Ok(Self {
            agent,
            servers,
            lab,
        })
    }

    /// A routed lab as this mode needs it.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn wired(mode: Mode, servers: u8) -> Result<Routed> {
        let lab = Routed::new(servers)?;
        if mode == Mode::Native {
            lab.receive_native_tx()?;
        }
        Ok(lab)
    }

    /// nginx on every server of a lab.
    ///
    /// # Errors
    /// When one does not start.
    pub fn nginx(lab: &Routed) -> Result<Vec<Nginx>> {
        (1..=lab.servers())
            .map(|number| lab.start_nginx(number, BACKEND_PORT))
            .collect()
    }

    /// A config without services for all interfaces of the lab's balancer.
    #[must_use]
    pub fn config(lab: &Routed, mode: Mode) -> Config {
        Config::new(lab as &Lab, &lab.balancer_interfaces(), mode)
    }
}
