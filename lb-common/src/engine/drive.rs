//! From stage to stage.

use super::{
    Family, Hint, Next, Outcome, answer, check, control, cookie, flow, forward, is_for_host, lock,
    open,
    outcome::{IS_DATAGRAM, IS_STRAY},
    rate, served, wall,
};
use crate::{
    frame::Frame,
    ip::{Ip, V4, V6},
    tables::Tables,
    verdict::Verdict,
};

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
        let refused = match outcome.mtu {
            IS_STRAY => None,
            // It may be of a flow that another balancer knows, or that lost its backend.
            IS_DATAGRAM => stages.rate(false),
            _ => stages.rate(true),
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
