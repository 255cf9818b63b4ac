//! The answer to `lb why`: what the program's twin did with a packet, in words.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lb_common::{
    abi::{self, EndpointKey, OnBackendDown, Protocol},
    headers::Ports,
    trace::{Decision, Trace},
    verdict::{Disposition, Verdict},
};
use nix::net::if_::if_indextoname;

use super::{
    core::Core,
    flow_lister::{backends, some_of},
    forwarding,
};
use crate::{
    dataplane::DryRunner,
    why::{self, Answer, Query, Question},
};

/// Asks the program's twin, which it loads when it is first asked.
pub(super) struct Explainer {
    core: Arc<Mutex<Core>>,
    runner: Mutex<Option<DryRunner>>,
}

impl Explainer {
    pub(super) fn new(core: Arc<Mutex<Core>>) -> Self {
        Self {
            core,
            runner: Mutex::default(),
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what would become of a packet.
    ///
    /// # Errors
    /// With a sentence.
    pub(super) fn explain(&self, query: &Query) -> Result<Answer, String> {
        let mut runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner);
        let (interface, ifindex, frame, twin) = {
            let core = self.core();
            let (name, ifindex, mac) = ingress(&core, query.interface.as_deref())?;
            let frame = match &query.question {
                Question::Frame(frame) => frame.clone(),
                Question::Packet(asked) => why::build(asked, mac)?,
            };
            let twin = core
                .dataplane
                .as_ref()
                .map(crate::dataplane::Dataplane::twin);
            (name, ifindex, frame, twin.ok_or("the agent is stopping")?)
        };
        let runner = match &mut *runner {
            Some(runner) => runner,
            // It takes the verifier a moment, in which nothing else has to wait.
            empty => empty.insert(DryRunner::load(&twin).map_err(|error| error.to_string())?),
        };
        let run = runner
            .run(&frame, ifindex)
            .map_err(|error| error.to_string())?;
        let core = self.core();
        let verdict = Verdict::from_number(run.trace.verdict as u8);
        let is_sent = verdict.disposition() == Disposition::Emit;
        Ok(Answer {
            packet: why::summary(&frame),
            interface,
            decisions: decisions(&core, &run.trace),
            verdict: verdict.label().to_owned(),
            explanation: verdict.explanation().to_owned(),
            egress: is_sent.then(|| interface_name(run.trace.egress)),
            sent: is_sent.then(|| why::summary(&run.frame)),
            frame: why::to_hex(&frame),
            sent_frame: is_sent.then(|| why::to_hex(&run.frame)),
        })
    }
}

/// The interface that a packet comes in by: its name, its index and its MAC.
fn ingress(core: &Core, asked: Option<&str>) -> Result<(String, u32, [u8; 6]), String> {
    let dataplane = core.dataplane.as_ref().ok_or("the agent is stopping")?;
    let attached = dataplane.attached();
    let names = &core.model.agent.interfaces;
    let name = match asked {
        Some(asked) if attached.contains_key(asked) => asked,
        Some(asked) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(format!(
                "steering is not attached to {asked} (it is to: {})",
                some_of(&names)
            ));
        }
        None => names
            .iter()
            .find(|name| attached.contains_key(*name))
            .ok_or("steering is attached to no interface now")?,
    };
    let ifindex = attached.get(name).map_or(0, |attached| attached.ifindex);
    let mac = dataplane
        .tables
        .interface(ifindex)
        .map_or([0; 6], |interface| interface.mac);
    Ok((name.to_owned(), ifindex, mac))
}

pub(super) fn interface_name(ifindex: u32) -> String {
    if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("interface {ifindex}"))
}

/// The decisions of a trace, in words.
pub(super) fn decisions(core: &Core, trace: &Trace) -> Vec<String> {
    let mut said: Vec<String> = trace
        .decisions()
        .map(|(decision, value)| sentence(core, decision, value))
        .collect();
    let held = lb_common::trace::CAPACITY;
    if trace.length as usize > held {
        said.push(format!(
            "and {} more decisions",
            trace.length as usize - held
        ));
    }
    said
}

fn sentence(core: &Core, decision: Decision, value: u32) -> String {
    let backend = || backend_name(core, value);
    match decision {
        Decision::NoEndpoint => {
            "neither its destination is a service's nor its source a backend's".to_owned()
        }
        Decision::Established => format!("it is of an established flow to {}", backend()),
        Decision::HalfOpen => format!("it is of a half-open flow to {}", backend()),
        Decision::NoFlow => "it is of no flow that is known".to_owned(),
        Decision::FlowOver => {
            "that flow is over (closed, expired, or of a backend that is gone): it begins another \
             one, if it may"
                .to_owned()
        }
        Decision::BackendDown => format!(
            "the flow's backend is down, and on_backend_down = \"{}\"",
            on_backend_down(value)
        ),
        Decision::Moved => format!("the flow moves to {}", backend()),
        Decision::Service => match core.service_key(value) {
            Some(key) => format!("it is for {}", service_name(core, &key)),
            None => "it is for a service that has just changed".to_owned(),
        },
        Decision::NoService => "its destination is no service's after all".to_owned(),
        Decision::Turn => format!("round-robin: it is slot {value}'s turn"),
        Decision::HashedSlot => format!("a hash of the client names slot {value}"),
        Decision::FewestFlows => {
            format!("least-connections: {value} live flows are the fewest for their weight")
        }
        Decision::Kept => format!("affinity: the client keeps {}", backend()),
        Decision::ServerId => format!("the QUIC connection id names {}", backend()),
        Decision::Chosen => format!("the new flow goes to {}", backend()),
        Decision::Stateless => "no flow is kept, as one_packet = true".to_owned(),
        Decision::SourcePort => {
            let (index, port) = ((value >> 16) as usize, value as u16);
            let sources = forwarding::source_addresses(&core.model.services);
            let address = sources.get(index).map_or_else(
                || "?".to_owned(),
                |ip| SocketAddr::new(*ip, port).to_string(),
            );
            format!("full NAT: its source becomes {address}")
        }
        Decision::NextHop => next_hop(core, value),
        Decision::TooLong => format!("it is longer than the {value} bytes that fit"),
        Decision::Clamped => format!("the segment size that it announces becomes {value} at most"),
        Decision::Reply => format!("it is a reply of {} to the client of a flow", backend()),
        Decision::NoReply => "it comes from where a backend listens, but is of no flow".to_owned(),
        Decision::Fragment => {
            let ports = Ports::of_word(value);
            format!(
                "it is a fragment of a packet from port {} to port {}",
                u16::from_be(ports.source.get()),
                u16::from_be(ports.destination.get())
            )
        }
        Decision::NoFirstFragment => {
            "it is a later fragment of a packet whose first one was not seen".to_owned()
        }
        Decision::ErrorToBackend => format!("it is about a packet of {}", backend()),
        Decision::ErrorToClient => {
            format!("it is about a packet that was sent to {}", backend())
        }
    }
}

fn on_backend_down(value: u32) -> &'static str {
    if value == OnBackendDown::Reset as u32 {
        "reset"
    } else if value == OnBackendDown::Hold as u32 {
        "hold"
    } else {
        "reschedule"
    }
}

/// "service web (203.0.113.10:80 tcp)"
fn service_name(core: &Core, key: &EndpointKey) -> String {
    let named = core.model.services.iter().zip(&core.services);
    let name = named
        .filter(|(_, state)| state.key == *key)
        .map(|(service, _)| service.name.as_str())
        .next();
    let protocol = match Protocol::from_number(key.protocol) {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) | None => "udp",
    };
    let address = SocketAddr::new(IpAddr::from(key.address), u16::from_be(key.port));
    match name {
        Some(name) => format!("service {name} ({address} {protocol})"),
        None => format!("{address} {protocol}, which the config does not name any more"),
    }
}

/// "backend web/web1 (10.0.0.11:8080)"
fn backend_name(core: &Core, id: u32) -> String {
    let address = |backend: &abi::Backend| {
        SocketAddr::new(IpAddr::from(backend.address), u16::from_be(backend.port))
    };
    let mut known = backends(core);
    if let Some((key, _, backend)) = known.find(|(_, known, _)| *known == Some(id)) {
        let mut services = core.model.services.iter().zip(&core.services);
        let service = services
            .find(|(_, state)| state.key == key)
            .map_or("?", |(service, _)| service.name.as_str());
        let address = SocketAddr::new(backend.address, backend.port);
        return format!("backend {service}/{} ({address})", backend.name);
    }
    let mut lingering = core.lingering();
    match lingering.find(|(lingering, _)| *lingering == id) {
        Some((_, backend)) => format!(
            "backend {}, which the config does not name any more",
            address(backend)
        ),
        None => "a backend that has just changed".to_owned(),
    }
}

fn next_hop(core: &Core, index: u32) -> String {
    let hop = core
        .dataplane
        .as_ref()
        .and_then(|dataplane| dataplane.tables.next_hop(index).ok())
        .filter(|_| index != 0);
    let Some(hop) = hop else {
        return "the way to it is not known (see the backend in `lb status`)".to_owned();
    };
    if hop.ifindex == 0 {
        return "the backend is this host".to_owned();
    }
    let mac: Vec<String> = hop
        .destination
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = match (hop.outer_vlan, hop.vlan) {
        (0, 0) => String::new(),
        (0, vlan) => format!(", VLAN {vlan}"),
        (outer, vlan) => format!(", VLAN {vlan} in {outer}"),
    };
    format!(
        "the way there: {}, MAC {}, MTU {}{tag}",
        interface_name(hop.ifindex),
        mac.join(":"),
        hop.mtu
    )
}
