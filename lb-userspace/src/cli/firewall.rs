//! `lb firewall`

use std::path::Path;

use clap::{ArgGroup, Subcommand};

use super::{
    Failure,
    output::{complain, print},
    sessions,
};
use crate::{
    admin::client,
    firewall::{Act, Document, Listed, Wish},
};

/// What to do with the firewall.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what is denied and allowed, and how much was dropped
    List {
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Drop packets by their source, at once
    ///
    /// It survives restarts and reloads, and goes before what the config says of the same prefix.
    Deny(Rule),
    /// Let sources through, whatever a shorter prefix says
    ///
    /// Where a service has no `allow` of its own in the config, others may use it as before.
    Allow(Rule),
    /// Go back to what the config says of a prefix, or of all
    ///
    /// Sources of it that are denied because they exceeded a limit are so no more.
    #[command(group = ArgGroup::new("what").args(["prefix", "all"]).required(true))]
    Clear {
        /// A prefix or an address that was set at run time, or that exceeded a limit
        prefix: Option<String>,
        /// All that were set at run time
        #[arg(long)]
        all: bool,
        /// What was set for this service
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// Also if connections to this host end by it
        #[arg(long)]
        force: bool,
    },
    /// Try the [firewall] of the config file: it is taken back unless it is confirmed
    ///
    /// Nothing else of the file is read in. What was confirmed holds; the file says the same, so a
    /// restart or a reload does not change it.
    Apply {
        /// Seconds to wait for `lb firewall confirm`
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
        confirm: u32,
    },
    /// Keep the [firewall] that was applied
    Confirm {
        /// Also if it keeps out who is connected to this host now
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Rule {
    /// A prefix or an address: 198.51.100.0/24, 2001:db8::1
    prefix: String,
    /// For this service alone; for the host without
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// For so long; for ever without
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=31_536_000))]
    seconds: Option<u32>,
    /// Also if connections to this host end by it
    #[arg(long)]
    force: bool,
}

pub(super) fn firewall(socket: &Path, command: Command) -> Result<(), Failure> {
    let rule = |act, rule: Rule| Wish {
        prefix: Some(rule.prefix),
        service: rule.service,
        seconds: rule.seconds,
        force: rule.force,
        ..Wish::new(act)
    };
    let wish = match command {
        Command::List { json } => return list(socket, json),
        Command::Deny(given) => rule(Act::Deny, given),
        Command::Allow(given) => rule(Act::Allow, given),
        Command::Clear {
            prefix,
            service,
            force,
            ..
        } => Wish {
            force,
            service,
            prefix: prefix.clone(),
            ..Wish::new(match prefix {
                Some(_) => Act::Clear,
                None => Act::ClearAll,
            })
        },
        Command::Apply { confirm } => Wish {
            seconds: Some(confirm),
            ..Wish::new(Act::Apply)
        },
        Command::Confirm { force } => Wish {
            force,
            ..Wish::new(Act::Confirm)
        },
    };
    let wish = Wish {
        caller: sessions::own(),
        ..wish
    };
    wish.parsed_prefix()
        .map_err(|sentence| Failure::Wrong(anyhow::anyhow!(sentence)))?;
    let changed = match client::change_firewall(socket, &wish) {
        Ok(changed) => changed,
        Err(client::Error::Wrong { sentence, problems }) => {
            for problem in problems {
                complain(&problem);
            }
            return Err(Failure::Wrong(anyhow::anyhow!(
                "nothing was changed: {sentence}"
            )));
        }
        Err(error) => return Err(Failure::failed(error)),
    };
    for warning in &changed.warnings {
        complain(&format!("lb: warning: {warning}"));
    }
    print(format!("{}\n", changed.lines.join("\n")).as_bytes())
}

fn list(socket: &Path, json: bool) -> Result<(), Failure> {
    let document = client::firewall(socket).map_err(Failure::failed)?;
    let mut text = if json {
        serde_json::to_string_pretty(&document).map_err(Failure::failed)?
    } else {
        page(&document)
    };
    text.push('\n');
    print(text.as_bytes())
}

fn page(document: &Document) -> String {
    let mut lines = Vec::new();
    let how = match (document.active, document.dry_run) {
        (false, _) => "the firewall is not in use".to_owned(),
        (true, true) => format!(
            "a dry run: {} packets would have been dropped",
            document.would_drop
        ),
        (true, false) => format!("{} packets were dropped", document.dropped),
    };
    lines.push(format!(
        "{how}; {} prefixes are denied, {} allowed",
        document.denied, document.allowed
    ));
    if !document.offenders.is_empty() || document.dropped_of_offenders != 0 {
        lines.push(format!(
            "{} sources are denied because they exceeded a limit; {} packets of such were dropped",
            document.offenders.len(),
            document.dropped_of_offenders
        ));
    }
    if let Some(seconds) = document.awaits_confirmation {
        lines.push(format!(
            "it is taken back in {seconds} s unless `lb firewall confirm` comes"
        ));
    }
    lines.extend(rules(&document.rules, &document.files));
    lines.extend(document.offenders.iter().map(|one| {
        let (prefix, key, left) = (&one.prefix, &one.exceeded, one.seconds_left);
        format!("deny  {prefix} (exceeded {key}, {left} s left)")
    }));
    for service in &document.services {
        let who = if service.allowed_only {
            ": only those that are allowed"
        } else {
            ""
        };
        lines.push(format!("service {}{who}", service.service));
        let own = rules(&service.rules, &service.files);
        lines.extend(own.map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

/// A line for each prefix, and for each list of files.
fn rules<'a>(
    rules: &'a [crate::firewall::Rule],
    files: &'a [Listed],
) -> impl Iterator<Item = String> + 'a {
    let rule = |rule: &crate::firewall::Rule| {
        let left = rule
            .seconds_left
            .map_or(String::new(), |seconds| format!(", {seconds} s left"));
        format!("{:5} {} ({}{left})", rule.action, rule.prefix, rule.origin)
    };
    let listed = |listed: &Listed| {
        let names = listed.files.join(", ");
        format!(
            "{:5} {} prefixes of {names}",
            listed.action, listed.prefixes
        )
    };
    rules.iter().map(rule).chain(files.iter().map(listed))
}
