//! A former primary that has come back becomes a replica.

use super::{Act, OnFailure, Plan, ReplicationAccount, Step, Times, check::Stage, sql};
use crate::topology::{Health, Primary, Settings, View};

/// A plan by which the server of this name copies from the primary, from where its own log ends. It
/// is there when it has all that the primary has; should it not get there, it copies from nobody.
///
/// # Errors
/// Everything that speaks against it.
pub fn rejoin(
    settings: &Settings,
    view: &View,
    name: &str,
    times: Times,
    account: Option<&ReplicationAccount>,
) -> Result<Plan, Vec<String>> {
    let stage = Stage { settings, view };
    let server = stage.named(name).map_err(|why| vec![why])?;
    let objections = objections(&stage, server, account.is_some());
    let (Primary::Server(primary), Some(account), true) =
        (&view.primary, account, objections.is_empty())
    else {
        return Err(objections);
    };
    let primary = *primary;
    let version = |server: usize| {
        let version = stage.server(server).version.clone();
        version.ok_or_else(|| vec![format!("{} was never reached", stage.server(server).name)])
    };
    let (own, source) = (version(server)?, version(primary)?);
    let (name, from) = (&stage.server(server).name, &stage.server(primary).name);
    let most = times.statement;
    let step = |what: String, act: Act, undo: Option<Act>| Step {
        what,
        act,
        undo,
        on_failure: OnFailure::Undo,
    };
    let follow = sql::follow(&own, "", &settings.servers[primary], Some(account));
    let mut forget = sql::stop(&own, "");
    forget.extend(sql::forget(&own, ""));
    let steps = vec![
        step(
            format!("set {name} read-only"),
            Act::Run(server, sql::fence(&own), most),
            None,
        ),
        step(
            format!("ask {name} for its last transaction"),
            Act::AskPosition(server, sql::position(&own), most),
            None,
        ),
        step(
            format!("let {name} replicate from {from}"),
            Act::StartAtPosition(server, follow, most),
            Some(Act::Run(server, forget, most)),
        ),
        step(
            format!("ask {from} for its last transaction"),
            Act::AskPosition(primary, sql::position(&source), most),
            None,
        ),
        step(
            format!("wait until {name} has it"),
            Act::AwaitPosition(server, times.catch_up),
            None,
        ),
    ];
    let names = [from.clone(), name.clone()].into();
    Ok(Plan::new(stage.family(server), names, steps))
}

/// What speaks against it.
fn objections(stage: &Stage<'_>, server: usize, has_account: bool) -> Vec<String> {
    let view = stage.server(server);
    let name = &view.name;
    let mut objections = Vec::new();
    if !has_account {
        objections.push("[mysql.failover] names no replication_user to log in as".to_owned());
    }
    if let Health::Down(trouble) = &view.health {
        objections.push(format!("{name} is not reached: {trouble}"));
    }
    let Primary::Server(primary) = stage.view.primary else {
        objections.push("there is no primary to replicate from".to_owned());
        return objections;
    };
    if server == primary {
        objections.push(format!("{name} is the primary"));
        return objections;
    }
    if view.source.is_some() || view.channel.is_some() {
        objections.push(format!("{name} replicates already, or is set up to"));
    }
    let source = stage.server(primary);
    if !sql::can_be_quoted(&stage.settings.servers[primary].host) {
        objections.push(format!("the address of {} has a backslash", source.name));
    }
    match (&view.executed, &source.executed) {
        (Some(own), Some(all)) => {
            let missing = own.without(all);
            if !missing.is_empty() {
                objections.push(format!(
                    "{name} has transactions that {} lacks ({missing}): make it anew from a backup",
                    source.name
                ));
            }
        }
        (None, _) => objections.push(format!("{name} has no GTIDs")),
        (Some(_), None) => objections.push(format!("{} has no GTIDs", source.name)),
    }
    objections
}
