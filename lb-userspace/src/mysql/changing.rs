//! Another server becomes the primary, as somebody asks.

use lb_mysql::{
    proxy::{Kind, Outcome, Wish},
    topology::plan,
};

use super::Running;
use crate::control::{End, Fault, NewPrimary, PrimaryChanged, PrimaryKind, Refusal};

/// Makes another server the primary, and returns when that is done or given up. On a thread where
/// waiting is allowed.
///
/// # Errors
/// When nothing was done, with all that speaks against it.
pub fn change_primary(
    running: Option<&Running>,
    change: NewPrimary,
    who: &str,
) -> Result<PrimaryChanged, Refusal> {
    let Some(Running { proxy, .. }) = running else {
        let sentence = "the agent routes no MySQL sessions: its config has no [mysql]";
        return Err(Refusal::new(Fault::NotFound, sentence));
    };
    let (kind, word) = match change.kind {
        PrimaryKind::Switchover => (Kind::Switchover, "switch-over"),
        PrimaryKind::Failover => (Kind::Failover, "failover"),
        PrimaryKind::Rejoin => (Kind::Rejoin, "rejoining"),
    };
    if !change.check {
        let to = change.to.as_deref().unwrap_or("the best replica");
        tracing::info!(
            kind = "mysql_topology",
            "mysql: {word} to {to}, asked for by {who}"
        );
    }
    let wish = Wish {
        kind,
        to: change.to,
        only_check: change.check,
    };
    let outcome = proxy
        .change_primary(wish)
        .map_err(|ended| Refusal::new(Fault::Failed, ended.to_string()))?;
    let changed = match outcome {
        Outcome::Refused(problems) => {
            return Err(Refusal {
                fault: Fault::Wrong,
                sentence: format!("no {word}, and nothing was done"),
                problems,
            });
        }
        Outcome::Checked(steps) => PrimaryChanged {
            end: End::Checked,
            steps,
        },
        Outcome::Tried(end, steps) => PrimaryChanged {
            end: match end {
                plan::End::Done => End::Done,
                plan::End::Undone => End::Undone,
                plan::End::Stuck => End::Stuck,
            },
            steps,
        },
    };
    Ok(changed)
}
