//! The primary hands over, and no transaction is lost.

use super::{Act, OnFailure, Plan, ReplicationAccount, Step, Times, check::Stage, sql};
use crate::topology::{Settings, Version, View};

/// A plan by which the server of this name becomes the primary.
///
/// # Errors
/// Everything that speaks against it.
pub fn switchover(
    settings: &Settings,
    view: &View,
    to: &str,
    times: Times,
    account: Option<&ReplicationAccount>,
) -> Result<Plan, Vec<String>> {
    let stage = Stage { settings, view };
    let candidate = stage.named(to).map_err(|why| vec![why])?;
    let objections = stage.objections_to_switch(candidate);
    let (Some(primary), true) = (view.primary(), objections.is_empty()) else {
        return Err(objections);
    };
    let version = |server: usize| {
        let version = stage.server(server).version.clone();
        version.ok_or_else(|| vec![format!("{} was never reached", stage.server(server).name)])
    };
    let (old, new) = (version(primary)?, version(candidate)?);
    let (from, name) = (&stage.server(primary).name, &stage.server(candidate).name);
    let most = times.statement;
    let mut steps = vec![
        Step {
            what: format!("hold writes to {from} until open transactions have ended"),
            act: Act::Hold(times.hold),
            undo: Some(Act::Release),
            on_failure: OnFailure::Undo,
        },
        Step {
            what: format!("set {from} read-only"),
            act: Act::Run(primary, sql::fence(&old), most),
            undo: Some(Act::Run(primary, sql::unfence(&old), most)),
            on_failure: OnFailure::Undo,
        },
        Step {
            what: format!("ask {from} for its last transaction"),
            act: Act::AskPosition(primary, sql::position(&old), most),
            undo: None,
            on_failure: OnFailure::Undo,
        },
        Step {
            what: format!("wait until {name} has it"),
            act: Act::AwaitPosition(candidate, times.catch_up),
            undo: None,
            on_failure: OnFailure::Undo,
        },
    ];
    steps.extend(promotion(&stage, candidate, &new, times));
    steps.push(demotion(&stage, (primary, &old), candidate, times, account));
    for replica in stage.replicas_of(primary) {
        if replica != candidate {
            steps.extend(repoint(&stage, replica, candidate, times));
        }
    }
    let names = [from.clone(), name.clone()].into();
    Ok(Plan::new(stage.family(candidate), names, steps))
}

/// A replica that has everything becomes the primary, and writes go on.
pub(super) fn promotion(
    stage: &Stage<'_>,
    candidate: usize,
    version: &Version,
    times: Times,
) -> Vec<Step> {
    let name = &stage.server(candidate).name;
    let most = times.statement;
    let channel = stage.channel(candidate).map(|channel| &*channel.name);
    let mut steps = Vec::new();
    if let Some(channel) = channel {
        steps.push(Step {
            what: format!("stop the replication of {name}"),
            act: Act::Run(candidate, sql::stop(version, channel), most),
            undo: Some(Act::Run(candidate, sql::start(version, channel), most)),
            on_failure: OnFailure::Undo,
        });
    }
    steps.push(Step {
        what: format!("let {name} take writes"),
        act: Act::Run(candidate, sql::unfence(version), most),
        undo: Some(Act::Run(candidate, sql::fence(version), most)),
        on_failure: OnFailure::NoWayBack,
    });
    if let Some(channel) = channel {
        steps.push(Step {
            what: format!("end the replication of {name}"),
            act: Act::Run(candidate, sql::forget(version, channel), most),
            undo: None,
            on_failure: OnFailure::Report,
        });
    }
    steps.push(Step {
        what: "let writes go on".to_owned(),
        act: Act::Release,
        undo: None,
        on_failure: OnFailure::Report,
    });
    steps
}

/// The former primary becomes a replica.
fn demotion(
    stage: &Stage<'_>,
    (primary, version): (usize, &Version),
    candidate: usize,
    times: Times,
    account: Option<&ReplicationAccount>,
) -> Step {
    let source = &stage.settings.servers[candidate];
    let (from, name) = (&stage.server(primary).name, &source.name);
    let what = format!("let {from} replicate from {name}");
    // Where it copies from somebody already, as one of two that copy from each other, it goes on.
    let is_replica = stage.server(primary).source == Some(candidate);
    let act = match account {
        _ if is_replica => Act::Run(primary, sql::start(version, ""), times.statement),
        Some(account) => Act::StartAtPosition(
            primary,
            sql::follow(version, "", source, Some(account)),
            times.statement,
        ),
        None => Act::ByHand("[mysql.failover] names no replication_user to log in as".to_owned()),
    };
    Step {
        what,
        act,
        undo: None,
        on_failure: OnFailure::Report,
    }
}

/// Another replica copies from the new primary.
pub(super) fn repoint(
    stage: &Stage<'_>,
    replica: usize,
    candidate: usize,
    times: Times,
) -> Option<Step> {
    let server = stage.server(replica);
    let version = server.version.as_ref()?;
    let channel = &stage.channel(replica)?.name;
    let source = &stage.settings.servers[candidate];
    let mut statements = sql::stop(version, channel);
    statements.extend(sql::follow(version, channel, source, None));
    Some(Step {
        what: format!("let {} replicate from {}", server.name, source.name),
        act: Act::Run(replica, statements, times.statement),
        undo: None,
        on_failure: OnFailure::Report,
    })
}
