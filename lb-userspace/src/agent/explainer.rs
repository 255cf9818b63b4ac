//! The answer to `lb why`: what the program's twin did with a packet, in words.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lb_common::{
    abi::{self, OnBackendDown},
    firewall::Entry,
    headers::Ports,
    trace::{Decision, Trace},
    verdict::{Disposition, Verdict},
};

use super::{core::Core, flow_lister::some_of, names::Names};
use crate::{
    dataplane::DryRunner,
    why::{self, Answer, Query, Question},
};

/// Asks the program's twin, which it loads when it is first asked.
pub(super) struct Explainer {
    core: Arc<Mutex<Core>>,
    /// With the features it was loaded with, which change with the program's.
    runner: Mutex<Option<(u32, DryRunner)>>,
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
            Some((features, runner)) if *features == twin.features() => runner,
            // It takes the verifier a moment, in which nothing else has to wait.
            other => {
                let loaded = DryRunner::load(&twin).map_err(|error| error.to_string())?;
                &mut other.insert((twin.features(), loaded)).1
            }
        };
        let run = runner
            .run(&frame, ifindex)
            .map_err(|error| error.to_string())?;
        let (mut names, decisions) = {
            let core = self.core();
            let mut names = Names::of(&core);
            let decisions = decisions(&mut names, |index| core.next_hop(index), &run.trace);
            (names, decisions)
        };
        let verdict = Verdict::from_number(run.trace.verdict as u8);
        let is_sent = verdict.disposition() == Disposition::Emit;
        Ok(Answer {
            packet: why::summary(&frame),
            interface,
            decisions,
            verdict: verdict.label().to_owned(),
            explanation: verdict.explanation().to_owned(),
            egress: is_sent.then(|| names.interface(run.trace.egress).to_owned()),
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

/// The decisions of a trace, in words.
pub(super) fn decisions(
    names: &mut Names,
    find_hop: impl Fn(u32) -> Option<abi::NextHop>,
    trace: &Trace,
) -> Vec<String> {
    let mut said: Vec<String> = trace
        .decisions()
        .map(|(decision, value)| sentence(names, &find_hop, decision, value))
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

/// What [`Decision::LockedDown`] is about.
fn about_host(value: u32) -> String {
    let detail = value & 0xffff;
    match value >> 16 {
        0 => "what it is".to_owned(),
        6 => format!("TCP port {detail}"),
        17 => format!("UDP port {detail}"),
        1 | 58 => format!("an ICMP message of type {detail}"),
        number => format!("IP protocol {number}"),
    }
}

fn sentence(
    names: &mut Names,
    find_hop: impl Fn(u32) -> Option<abi::NextHop>,
    decision: Decision,
    value: u32,
) -> String {
    let backend = || names.backend(value);
    match decision {
        Decision::Denied => format!(
            "the firewall denies its source, by a prefix of {value} bits (`lb firewall list`)"
        ),
        Decision::Allowed => {
            format!("the firewall allows its source, by a prefix of {value} bits")
        }
        Decision::ServiceDenied if value == Entry::NO_PREFIX => {
            "the service is only for those that its allow names ([service.firewall]), and its source \
             is none of them"
                .to_owned()
        }
        Decision::ServiceDenied => format!(
            "the service keeps its source out ([service.firewall]), by a prefix of {value} bits"
        ),
        Decision::ServiceAllowed => {
            format!("the service allows its source, by a prefix of {value} bits")
        }
        Decision::RateExceeded => {
            "its source has begun as many connections as [firewall.rate] allows".to_owned()
        }
        Decision::PacketsExceeded => {
            "its source has sent as many packets as [firewall.rate] packets allows".to_owned()
        }
        Decision::FlowsExceeded => {
            "its source has as many flows as [firewall.rate] flows allows".to_owned()
        }
        Decision::Offender => {
            let key = match value >> 24 {
                0 => "new_connections",
                1 => "packets",
                2 => "flows",
                _ => "a limit",
            };
            let left = (u64::from(value & 0xff_ffff) << abi::Ticks::SHIFT) / 1_000_000_000;
            format!(
                "its source exceeded [firewall.rate] {key} and is denied for {left} s yet (`lb firewall \
                 list`)"
            )
        }
        Decision::Exempt => format!(
            "its source is over a limit of [firewall.rate], but allowed, by a prefix of {value} bits"
        ),
        Decision::LockedDown => format!(
            "this host is locked down ([firewall] default = \"deny\"), and {} is not among what may pass",
            about_host(value)
        ),
        Decision::Trusted => format!(
            "this host is locked down, but the source may reach all of it, by a prefix of {value} bits"
        ),
        Decision::DryRun => "but its dry_run is on, so it only counts that".to_owned(),
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
        Decision::Service => format!("it is for {}", names.service(value)),
        Decision::NoService => "its destination is no service's after all".to_owned(),
        Decision::Turn => format!("round-robin: it is slot {value}'s turn"),
        Decision::HashedSlot => format!("a hash of the client names slot {value}"),
        Decision::FewestFlows => {
            format!("least-connections: {value} live flows are the fewest for their weight")
        }
        Decision::Kept => format!("affinity: the client keeps {}", backend()),
        Decision::ServerId => format!("the QUIC connection id names {}", backend()),
        Decision::Chosen => format!("the new flow goes to {}", backend()),
        Decision::CookieSent => format!(
            "the service has {value} half-open connections or more (syn_cookies), so the answer is a \
             SYN cookie"
        ),
        Decision::CookieFits => format!(
            "it fits a SYN cookie: the connection begins now, with segments of {value} bytes at most"
        ),
        Decision::CookieUnfit => "it fits no SYN cookie".to_owned(),
        Decision::Early => format!(
            "it is of a flow that began by a SYN cookie, and {} has not answered yet",
            backend()
        ),
        Decision::TakenUp => {
            "it may be of a connection that began by another balancer: taken up".to_owned()
        }
        Decision::Stateless => "no flow is kept for it".to_owned(),
        Decision::SourcePort => {
            let (index, port) = ((value >> 16) as usize, value as u16);
            let address = names.source(index).map_or_else(
                || "?".to_owned(),
                |ip| SocketAddr::new(ip, port).to_string(),
            );
            format!("full NAT: its source becomes {address}")
        }
        Decision::NextHop => names.next_hop(value, find_hop).to_owned(),
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
