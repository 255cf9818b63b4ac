//! A packet's way.
//!
//! It goes through *stages*, each a function of its own in the kernel, which the verifier walks
//! through alone: [`wall`] asks the firewall, [`served`] looks at the Ethernet header, [`flow`] finds
//! what is known, [`open`] begins flows and handles what became of old ones, [`forward`] sends their
//! packets, [`cookie`] takes the answers to SYN cookies, [`control`] is for ICMP and fragments,
//! [`answer`] for packets that the balancer sends itself, [`check`] for health checks; limits of
//! sources and the lock-down of the host are asked in between, see [`drive`]. A stage reads the frame
//! anew; what one wants to tell the next stands in a [`Hint`].

pub mod packet;

mod answer;
mod check;
mod control;
mod cookie;
mod echo;
mod encapsulate;
mod fragments;
mod icmp_error;
mod lock;
mod mss;
mod offender;
pub mod pick;
mod rewrite;
mod schedule;
mod segment;
mod server_id;
mod step;
mod to_client;
mod to_service;
mod vlan;
mod wall;

use crate::{
    abi::{EndpointKey, Ticks, features},
    address::Address,
    filter::{Bit, Role},
    flow::{Path, Place},
    frame::Frame,
    headers::{Ethernet, ethertype},
    ip::{Ip, V4, V6},
    tables::Tables,
    trace::Decision,
    verdict::{Disposition, Verdict},
};
use packet::{Link, Packet, Read};

/// [`Outcome::mtu`] of [`Outcome::stray`].
const IS_STRAY: u16 = 1;

/// Bits of a backend's id.
const BACKEND_BITS: u32 = 24;

/// What to do with a frame.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What happened and why.
    pub verdict: Verdict,
    /// Interface to leave by, where the verdict's disposition is to emit; else 0.
    pub egress: u32,
    /// What is still to be done; the frame is untouched until then.
    pub next: Next,
    /// For [`Next::Answer`], the largest packet that fits, where that is the trouble; for
    /// [`Next::Flow`], whether it is a later fragment, and `egress` holds its ports.
    pub mtu: u16,
}

/// The stage that goes on with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Next {
    /// None: the outcome is final.
    Done = 0,
    /// [`flow`], with a [`Hint`] that says what a fragment does not.
    Flow = 1,
    /// [`open`]
    Open = 2,
    /// [`control`]
    Control = 3,
    /// [`answer`]
    Answer = 4,
    /// [`check`]
    Check = 5,
    /// [`cookie`]
    Cookie = 6,
    /// [`forward`]
    Forward = 7,
    /// [`open`], for a packet that may be of a connection that began by another balancer.
    TakeUp = 8,
}

impl From<Verdict> for Outcome {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            egress: 0,
            next: Next::Done,
            mtu: 0,
        }
    }
}

impl Outcome {
    /// Leaves by an interface.
    #[inline(always)]
    const fn emit(verdict: Verdict, egress: u32) -> Self {
        Self {
            verdict,
            egress,
            next: Next::Done,
            mtu: 0,
        }
    }

    /// Goes on with another stage.
    #[inline(always)]
    const fn then(next: Next) -> Self {
        Self {
            verdict: Verdict::PassNotOurs,
            egress: 0,
            next,
            mtu: 0,
        }
    }

    /// Goes to a backend, that way.
    #[inline(always)]
    const fn forward(backend: u32, path: Path) -> Self {
        let (kind, port) = path.words();
        Self {
            egress: backend | (kind as u32) << BACKEND_BITS,
            mtu: port,
            ..Self::then(Next::Forward)
        }
    }

    /// The backend and the way of [`Outcome::forward`].
    #[inline(always)]
    const fn target(self) -> (u32, Path) {
        let path = Path::from_words((self.egress >> BACKEND_BITS) as u8, self.mtu);
        (self.egress & ((1 << BACKEND_BITS) - 1), path)
    }

    /// Is of no flow; a packet of TCP that does not begin one either takes no token of its source: it
    /// may be a client's answer to a SYN cookie, whose SYN has taken one.
    #[inline(always)]
    const fn stray(is_tcp: bool) -> Self {
        let mut outcome = Self::then(Next::Open);
        outcome.mtu = IS_STRAY * is_tcp as u16;
        outcome
    }

    /// Is answered, with that verdict if it succeeds.
    #[inline(always)]
    const fn answer(verdict: Verdict) -> Self {
        Self::answer_too_big(verdict, 0)
    }

    /// Is answered that it is larger than `mtu`.
    #[inline(always)]
    const fn answer_too_big(verdict: Verdict, mtu: u16) -> Self {
        Self {
            verdict,
            egress: 0,
            next: Next::Answer,
            mtu,
        }
    }

    /// A fragment of a packet with these ports is steered; a later one has no ports of its own.
    #[inline(always)]
    const fn fragment(ports: u32, is_later: bool) -> Self {
        Self {
            verdict: Verdict::PassNotOurs,
            egress: ports,
            next: Next::Flow,
            mtu: is_later as u16,
        }
    }

    /// As one number, for a function in the kernel to return.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.verdict as u64
            | (self.next as u64) << 8
            | (self.mtu as u64) << 16
            | (self.egress as u64) << 32
    }

    /// From [`Outcome::pack`].
    #[inline(always)]
    pub const fn unpack(packed: u64) -> Self {
        let next = match (packed >> 8) as u8 {
            1 => Next::Flow,
            2 => Next::Open,
            3 => Next::Control,
            4 => Next::Answer,
            5 => Next::Check,
            6 => Next::Cookie,
            7 => Next::Forward,
            8 => Next::TakeUp,
            _ => Next::Done,
        };
        Self {
            verdict: Verdict::from_number(packed as u8),
            egress: (packed >> 32) as u32,
            next,
            mtu: (packed >> 16) as u16,
        }
    }
}

/// What [`control`] tells [`flow`] and [`open`] of a fragment, and [`cookie`] tells [`open`]; 0 is
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint(pub u64);

impl Hint {
    const IS_FRAGMENT: u64 = 1 << 32;
    const IS_LATER: u64 = 1 << 33;
    const HAS_COOKIE: u64 = 1 << 34;
    const IS_REPLY: u64 = 1 << 35;
    const IS_TAKEN_UP: u64 = 1 << 36;

    #[inline(always)]
    const fn of_fragment(outcome: Outcome) -> Self {
        let later = if outcome.mtu == 0 { 0 } else { Self::IS_LATER };
        Self(outcome.egress as u64 | Self::IS_FRAGMENT | later)
    }

    /// The packet is the SYN of a client that has that SYN cookie.
    #[inline(always)]
    const fn of_cookie(cookie: u32) -> Self {
        Self(cookie as u64 | Self::HAS_COOKIE)
    }

    #[inline(always)]
    const fn cookie(self) -> Option<u32> {
        if self.0 & Self::HAS_COOKIE == 0 {
            None
        } else {
            Some(self.0 as u32)
        }
    }

    /// The packet is of no flow, and goes on as if it began one.
    #[inline(always)]
    const fn of_taken_up(self) -> Self {
        Self(self.0 | Self::IS_TAKEN_UP)
    }

    /// The packet is not for a service.
    #[inline(always)]
    const fn of_reply(self) -> Self {
        Self(self.0 | Self::IS_REPLY)
    }

    const fn is_reply(self) -> bool {
        self.0 & Self::IS_REPLY != 0
    }

    const fn is_fragment(self) -> bool {
        self.0 & Self::IS_FRAGMENT != 0
    }

    const fn is_later_fragment(self) -> bool {
        self.0 & Self::IS_LATER != 0
    }

    const fn ports(self) -> u32 {
        self.0 as u32
    }
}

/// Which IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// Looks at the Ethernet header: which IP version it is and where it begins, or what becomes of the
/// frame.
#[inline(always)]
pub fn first<F: Frame>(frame: &mut F) -> Result<(Family, usize), Verdict> {
    let Some(link) = Link::parse(frame) else {
        return Err(Verdict::PassNotOurs);
    };
    match link.ethertype {
        ethertype::IPV4 => Ok((Family::V4, link.payload)),
        ethertype::IPV6 => Ok((Family::V6, link.payload)),
        ethertype::ARP => Err(Verdict::PassArp),
        ethertype::MPLS | ethertype::MPLS_MULTICAST => Err(Verdict::PassMpls),
        ethertype::PPPOE_DISCOVERY | ethertype::PPPOE_SESSION => Err(Verdict::PassPppoe),
        _ => Err(Verdict::PassNotIp),
    }
}

/// The same, with the IP versions that are in use only. The program has no code for another.
///
/// # Errors
/// The verdict, where that is all there is to do.
#[inline(always)]
pub fn served<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Family, Verdict> {
    let (family, _) = first(frame)?;
    let version = match family {
        Family::V4 => features::IPV4,
        Family::V6 => features::IPV6,
    };
    if tables.has(version) {
        Ok(family)
    } else {
        Err(Verdict::PassNotOurs)
    }
}

/// Says what becomes of a frame whose sender may not send, or not so much, and nothing of all others.
/// It looks at both IP versions, whichever are in use.
#[inline(always)]
pub fn wall<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Option<Verdict> {
    if !tables.has(features::FIREWALL | features::PACKET_LIMIT | features::OFFENDERS) {
        return None;
    }
    let (family, payload) = first(frame).ok()?;
    wall::judge(frame, tables, family, payload).err()
}

/// Says what becomes of a frame that may begin a connection, where its source has begun as many as it
/// may. Whoever exceeds that may be denied for a while, if it is `deliberate`.
#[inline(always)]
pub fn rate<F: Frame, T: Tables>(frame: &mut F, tables: &T, deliberate: bool) -> Option<Verdict> {
    if !tables.has(features::RATE_LIMIT | features::FLOW_LIMIT) {
        return None;
    }
    let (family, payload) = first(frame).ok()?;
    wall::begin(frame, tables, family, payload, deliberate).err()
}

/// Says what becomes of a frame that would go to the host with that verdict, where the host is locked
/// down and the frame may not pass. It looks at both IP versions, whichever are in use.
#[inline(always)]
pub fn lock<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Option<Verdict> {
    if !tables.has(features::LOCK_DOWN) {
        return None;
    }
    lock::guard(frame, tables).err()
}

/// Whether [`lock`] is to be asked. Address resolution passes, and so does what is for a backend on
/// this host.
#[inline(always)]
#[must_use]
pub fn is_for_host(verdict: Verdict) -> bool {
    verdict.disposition() == Disposition::Pass
        && !matches!(verdict, Verdict::PassArp | Verdict::SteeredLocal)
}

/// Runs the stages of one IP version. In the kernel each is a function of its own.
pub trait Stages {
    /// [`flow`]
    fn flow(&mut self, hint: Hint) -> Outcome;
    /// [`open`]
    fn open(&mut self, hint: Hint) -> Outcome;
    /// [`control`]
    fn control(&mut self) -> Outcome;
    /// [`rate`]
    fn rate(&mut self, deliberate: bool) -> Option<Verdict>;
    /// [`answer`]
    fn answer(&mut self, outcome: Outcome) -> Outcome;
    /// [`check`]
    fn check(&mut self) -> Outcome;
    /// [`cookie`]
    fn cookie(&mut self, outcome: Outcome) -> Outcome;
    /// [`forward`]
    fn forward(&mut self, outcome: Outcome, hint: Hint) -> Outcome;
}

/// Takes a frame from stage to stage.
#[inline(always)]
pub fn drive<S: Stages>(stages: &mut S) -> Outcome {
    let mut hint = Hint::default();
    let mut outcome = stages.flow(hint);
    if outcome.next == Next::Control {
        outcome = stages.control();
        if outcome.next == Next::Flow {
            hint = Hint::of_fragment(outcome);
            outcome = stages.flow(hint);
        }
    }
    if outcome.next == Next::Open {
        let refused = if outcome.mtu == IS_STRAY {
            None
        } else {
            stages.rate(true)
        };
        outcome = match refused {
            Some(verdict) => verdict.into(),
            None => stages.open(hint),
        };
        if outcome.next == Next::TakeUp {
            // It begins a flow here, and takes a token as a SYN does. That many come at once is not
            // the sources' doing, but a router's that lost another balancer.
            outcome = match stages.rate(false) {
                Some(verdict) => verdict.into(),
                None => stages.open(hint.of_taken_up()),
            };
        }
        if outcome.next == Next::Flow {
            // For no service after all: it may be a backend's reply.
            outcome = stages.flow(hint.of_reply());
        }
    }
    if outcome.next == Next::Cookie {
        outcome = stages.cookie(outcome);
        if outcome.next == Next::Open {
            outcome = stages.open(Hint::of_cookie(outcome.egress));
        }
    }
    if outcome.next == Next::Forward {
        outcome = stages.forward(outcome, hint);
    }
    if outcome.next == Next::Check {
        outcome = stages.check();
    }
    if outcome.next == Next::Answer {
        outcome = stages.answer(outcome);
    }
    outcome
}

/// Decides about a frame and rewrites it.
#[inline(always)]
pub fn process<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    if let Some(verdict) = wall(frame, tables) {
        return verdict.into();
    }
    let outcome = match served(frame, tables) {
        Ok(Family::V4) => drive(&mut Here::<V4, F, T>::new(frame, tables)),
        Ok(Family::V6) => drive(&mut Here::<V6, F, T>::new(frame, tables)),
        Err(verdict) => verdict.into(),
    };
    if !is_for_host(outcome.verdict) {
        return outcome;
    }
    lock(frame, tables).map_or(outcome, Outcome::from)
}

/// Stages that are called directly.
struct Here<'a, I, F, T> {
    frame: &'a mut F,
    tables: &'a T,
    ip: core::marker::PhantomData<I>,
}

impl<'a, I, F, T> Here<'a, I, F, T> {
    fn new(frame: &'a mut F, tables: &'a T) -> Self {
        Self {
            frame,
            tables,
            ip: core::marker::PhantomData,
        }
    }
}

impl<I: Ip, F: Frame, T: Tables> Stages for Here<'_, I, F, T> {
    fn flow(&mut self, hint: Hint) -> Outcome {
        flow::<I, F, T>(self.frame, self.tables, hint)
    }

    fn open(&mut self, hint: Hint) -> Outcome {
        open::<I, F, T>(self.frame, self.tables, hint)
    }

    fn control(&mut self) -> Outcome {
        control::<I, F, T>(self.frame, self.tables)
    }

    fn rate(&mut self, deliberate: bool) -> Option<Verdict> {
        rate(self.frame, self.tables, deliberate)
    }

    fn answer(&mut self, outcome: Outcome) -> Outcome {
        answer::<I, F, T>(self.frame, self.tables, outcome)
    }

    fn check(&mut self) -> Outcome {
        check::<I, F, T>(self.frame, self.tables)
    }

    fn cookie(&mut self, outcome: Outcome) -> Outcome {
        cookie::<I, F, T>(self.frame, self.tables, outcome)
    }

    fn forward(&mut self, outcome: Outcome, hint: Hint) -> Outcome {
        forward::<I, F, T>(self.frame, self.tables, outcome, hint)
    }
}

/// Steers a packet of a known flow. Most packets never see another stage.
#[inline(always)]
pub fn flow<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, hint: Hint) -> Outcome {
    let packet = match Packet::read::<I, F>(frame, hint) {
        Read::Packet(packet) => packet,
        Read::Control => return Outcome::then(Next::Control),
        Read::Cut(destination) => {
            return refuse_if_service_address(tables, &destination, Verdict::DropMalformed);
        }
        Read::NotIp => return Verdict::PassNotOurs.into(),
    };
    let ip = &packet.ip;
    let destination_port = packet.ports.destination.get();
    let is_service = !hint.is_reply()
        && filter_has(
            tables,
            Role::Service,
            ip.destination,
            destination_port,
            ip.protocol,
        );
    if is_service {
        if tables.has(features::CHECKS) && check::comes_by(frame, tables) {
            return Outcome::then(Next::Check);
        }
        let outcome = to_service::steer::<I, F, T, false>(frame, tables, &packet, hint);
        if outcome.verdict != Verdict::PassNotOurs || outcome.next != Next::Done {
            return outcome;
        }
    }
    if tables.has(features::NAT | features::FULL_NAT)
        && filter_has(
            tables,
            Role::Backend,
            ip.source,
            packet.ports.source.get(),
            ip.protocol,
        )
    {
        let outcome = to_client::steer::<I, F, T>(frame, tables, &packet);
        return check::or_reply(tables, &packet, outcome);
    }
    tables.note(Decision::NoEndpoint, 0);
    check::or_reply(tables, &packet, Verdict::PassNotOurs.into())
}

/// Begins a flow, or deals with one that is not what it was. Only for packets whose destination
/// may be a service.
#[inline(always)]
pub fn open<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, hint: Hint) -> Outcome {
    let Read::Packet(packet) = Packet::read::<I, F>(frame, hint) else {
        return Verdict::DropMalformed.into();
    };
    let outcome = to_service::steer::<I, F, T, true>(frame, tables, &packet, hint);
    let is_foreign = outcome.verdict == Verdict::PassNotOurs && outcome.next == Next::Done;
    if is_foreign
        && tables.has(features::NAT | features::FULL_NAT)
        && filter_has(
            tables,
            Role::Backend,
            packet.ip.source,
            packet.ports.source.get(),
            packet.ip.protocol,
        )
    {
        return Outcome::then(Next::Flow);
    }
    check::or_reply(tables, &packet, outcome)
}

/// Handles what is neither TCP nor UDP, and fragments, whose ports have to be looked up first.
#[inline(always)]
pub fn control<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    control::control::<I, F, T>(frame, tables)
}

/// Builds the packet that answers this one.
#[inline(always)]
pub fn answer<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, outcome: Outcome) -> Outcome {
    answer::build::<I, F, T>(frame, tables, outcome)
}

/// Sends a packet of a health check to its backend, or that backend's reply to the check.
#[inline(always)]
pub fn check<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Outcome {
    if !tables.has(features::CHECKS) {
        return Verdict::PassNotOurs.into();
    }
    check::steer::<I, F, T>(frame, tables)
}

/// Makes a packet that fits a SYN cookie the SYN that its client once sent.
#[inline(always)]
pub fn cookie<I: Ip, F: Frame, T: Tables>(frame: &mut F, tables: &T, outcome: Outcome) -> Outcome {
    if !tables.has(features::SYN_COOKIES) {
        return Verdict::PassNotOurs.into();
    }
    cookie::take::<I, F, T>(frame, tables, outcome)
}

/// Sends a packet to the backend that [`open`] has found. A stage of its own, because both together
/// are more than the stack holds.
#[inline(always)]
pub fn forward<I: Ip, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    outcome: Outcome,
    hint: Hint,
) -> Outcome {
    let Read::Packet(packet) = Packet::read::<I, F>(frame, hint) else {
        return Verdict::DropMalformed.into();
    };
    let (backend, path) = outcome.target();
    let place = Place::of(
        &tables.settings(),
        packet.ip.source,
        packet.ports.source.get(),
        packet.ip.protocol,
    );
    to_service::forward::<I, F, T, true, false>(frame, tables, &packet, backend, path, place)
}

#[inline(always)]
fn filter_has<T: Tables>(
    tables: &T,
    role: Role,
    address: Address,
    port: u16,
    protocol: u8,
) -> bool {
    let settings = tables.settings();
    let bit = Bit::of(
        settings.hash_seed,
        settings.filter_mask,
        role,
        address,
        port,
        protocol,
    );
    tables.filter_word(bit.word) & bit.mask != 0
}

/// The verdict, if the address has services; else the packet is not ours.
#[inline(always)]
fn refuse_if_service_address<T: Tables>(
    tables: &T,
    address: &Address,
    verdict: Verdict,
) -> Outcome {
    if has_services(tables, *address) {
        verdict.into()
    } else {
        Verdict::PassNotOurs.into()
    }
}

/// Whether any port of an address is a service.
#[inline(always)]
fn has_services<T: Tables>(tables: &T, address: Address) -> bool {
    filter_has(tables, Role::Service, address, 0, 0)
        && tables.service(&EndpointKey::any_port(address)).is_some()
}

/// Whether a frame is addressed to the MAC of the interface it came in by, or to a virtual MAC of
/// VRRP (RFC 9568, section 7.3), and not merely seen here because a switch flooded it.
#[inline(always)]
fn is_addressed_to_us<F: Frame, T: Tables>(frame: &mut F, tables: &T, now: Ticks) -> bool {
    let ingress = frame.ingress();
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return false;
    };
    let mac = ethernet.destination;
    let Some(interface) = tables.interface(ingress, now) else {
        return true;
    };
    if mac == interface.mac {
        return true;
    }
    // It may have got another MAC a moment ago.
    let is_new = tables
        .interface_anew(ingress, now)
        .is_some_and(|interface| mac == interface.mac);
    is_new
        || (mac[0] == 0 && mac[1] == 0 && mac[2] == 0x5e && mac[3] == 0 && matches!(mac[4], 1 | 2))
}
