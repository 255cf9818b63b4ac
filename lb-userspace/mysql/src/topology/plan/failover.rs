//! The primary is gone, and a replica takes its place. What it had and no replica fetched is lost.

use super::{
    Act, OnFailure, Plan, Step, Times,
    check::Stage,
    sql,
    switchover::{promotion, repoint},
};
use crate::{
    gtid::GtidSet,
    topology::{Health, NoPrimary, Primary, ServerView, Settings, View},
};

/// A plan by which a replica becomes the primary, because that is lost. With a lease, it is asked
/// for at the beginning and again right before the replica takes writes.
///
/// # Errors
/// Everything that speaks against it.
pub fn failover(
    settings: &Settings,
    view: &View,
    to: Option<&str>,
    times: Times,
    needs_lease: bool,
) -> Result<Plan, Vec<String>> {
    let stage = Stage { settings, view };
    if let Some(why) = not_lost(&stage) {
        return Err(vec![why]);
    }
    let candidate = match to {
        Some(name) => stage.named(name).map_err(|why| vec![why])?,
        None => best_candidate(settings, view)
            .ok_or_else(|| vec!["no replica is fit to be the primary".to_owned()])?,
    };
    let mut objections = stage.objections(candidate);
    objections.extend(more_advanced(&stage, candidate));
    let version = stage.server(candidate).version.clone();
    let (Some(version), true) = (version, objections.is_empty()) else {
        return Err(objections);
    };
    let name = &stage.server(candidate).name;
    let mut steps = Vec::new();
    let lease = || Step {
        what: "make sure that no other proxy does the same".to_owned(),
        act: Act::Lease(times.statement * 2),
        undo: None,
        on_failure: OnFailure::Undo,
    };
    if needs_lease {
        steps.push(lease());
    }
    steps.push(Step {
        what: "hold writes".to_owned(),
        act: Act::Hold(times.hold),
        undo: Some(Act::Release),
        on_failure: OnFailure::Undo,
    });
    if let Some(channel) = stage.channel(candidate) {
        let stop = sql::stop_fetching(&version, &channel.name);
        let start = sql::start(&version, &channel.name);
        steps.push(Step {
            what: format!("let {name} fetch nothing more, should the former primary return"),
            act: Act::Run(candidate, stop, times.statement),
            undo: Some(Act::Run(candidate, start, times.statement)),
            on_failure: OnFailure::Undo,
        });
        if let Some(retrieved) = &channel.retrieved {
            steps.push(Step {
                what: format!("wait until {name} has applied what it fetched"),
                act: Act::Await(candidate, retrieved.clone(), times.catch_up),
                undo: None,
                on_failure: OnFailure::Undo,
            });
        }
    }
    let mut promotion = promotion(&stage, candidate, &version, times);
    if needs_lease {
        let place = promotion
            .iter()
            .position(|step| step.on_failure == OnFailure::NoWayBack);
        promotion.insert(place.unwrap_or(0), lease());
    }
    steps.extend(promotion);
    let others = (0..view.servers.len()).filter(|other| *other != candidate);
    for other in others {
        let is_up = !matches!(stage.server(other).health, Health::Down(_));
        if is_up && stage.server(other).source.is_some() {
            steps.extend(repoint(&stage, other, candidate, times));
        }
    }
    let names = [name.clone()].into();
    Ok(Plan::new(stage.family(candidate), names, steps))
}

/// Why there is no need for it.
fn not_lost(stage: &Stage<'_>) -> Option<String> {
    match &stage.view.primary {
        Primary::Nobody(NoPrimary::Lost(..)) => None,
        // Whoever has started since does not know who it was; the replicas do.
        Primary::Nobody(NoPrimary::NobodyTakesWrites) if has_lost_source(stage) => None,
        Primary::Server(primary) => Some(format!(
            "the primary {} is there: use a switch-over",
            stage.server(*primary).name
        )),
        Primary::Nobody(why) => Some(format!("the primary is not lost: {why}")),
    }
}

/// Whether a replica that is reached copies from a server that is not.
fn has_lost_source(stage: &Stage<'_>) -> bool {
    let is_down = |server: &ServerView| matches!(server.health, Health::Down(_));
    let mut up = stage.view.servers.iter().filter(|server| !is_down(server));
    up.any(|server| {
        server
            .source
            .is_some_and(|source| is_down(stage.server(source)))
    })
}

/// All that a replica has or has fetched.
fn reach(stage: &Stage<'_>, server: usize) -> Option<GtidSet> {
    let mut all = stage.server(server).executed.clone()?;
    let channel = stage.channel(server);
    if let Some(retrieved) = channel.and_then(|channel| channel.retrieved.as_ref()) {
        all.union(retrieved);
    }
    Some(all)
}

/// Replicas that have what this one lacks: with it as the primary that would be lost.
fn more_advanced(stage: &Stage<'_>, candidate: usize) -> Option<String> {
    let own = reach(stage, candidate)?;
    let others = (0..stage.view.servers.len()).filter(|other| {
        let server = stage.server(*other);
        *other != candidate && server.source.is_some() && !matches!(server.health, Health::Down(_))
    });
    let mut ahead = others.filter_map(|other| {
        let missing = reach(stage, other)?.without(&own);
        (!missing.is_empty()).then_some((other, missing))
    });
    let (other, missing) = ahead.next()?;
    Some(format!(
        "{} has transactions that {} lacks, and would be lost: {missing}",
        stage.server(other).name,
        stage.server(candidate).name
    ))
}

/// The replica that lacks nothing that another has; the first of several.
#[must_use]
pub fn best_candidate(settings: &Settings, view: &View) -> Option<usize> {
    let stage = Stage { settings, view };
    (0..view.servers.len()).find(|server| {
        stage.server(*server).source.is_some()
            && stage.objections(*server).is_empty()
            && more_advanced(&stage, *server).is_none()
    })
}
