//! Checks by programs: what they say, and that nothing is left of them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lb_userspace::{
    config::model::{CheckKind, HealthCheck},
    health::{Health, Monitor, Report, Target},
};
use tokio::{sync::mpsc, time::sleep};

use crate::{SECOND, check, first, target};

fn script(text: &str) -> Target {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    let check = HealthCheck {
        timeout: 10 * SECOND,
        ..check(CheckKind::Script { command })
    };
    target("web1", "[2001:db8::1]:8080".parse().unwrap(), check)
}

async fn hasty(text: &str) -> Report {
    let mut target = script(text);
    target.check.timeout = Duration::from_millis(1500);
    first(target).await
}

#[tokio::test]
async fn its_exit_status_decides_and_its_first_line_is_shown() {
    for (text, health, start, end) in [
        ("exit 0", Health::Up, "script exit 0 in ", "s"),
        (
            "echo; echo all fine; echo more",
            Health::Up,
            "script exit 0 in ",
            "s: all fine",
        ),
        (
            "echo disk full >&2; exit 3",
            Health::Down,
            "script exit 3 in ",
            "s: disk full",
        ),
        (
            "kill -SEGV $$",
            Health::Down,
            "script killed by signal 11 in ",
            "s",
        ),
        (
            "echo $LB_SERVICE $LB_BACKEND $LB_ADDRESS $LB_PORT",
            Health::Up,
            "script exit 0 in ",
            "s: web web1 2001:db8::1 8080",
        ),
        (
            "read line || echo nothing to read",
            Health::Up,
            "script exit 0 in ",
            "nothing to read",
        ),
        (
            "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end",
            Health::Up,
            "script exit 0 in ",
            "xxx…",
        ),
    ] {
        let report = first(script(text)).await;
        let detail = &report.detail;
        assert_eq!(report.health, health, "{detail}");
        assert!(
            detail.starts_with(start) && detail.ends_with(end),
            "{text}: {detail}"
        );
        assert!(detail.chars().count() < 300, "{detail}");
    }
}

#[tokio::test]
async fn its_time_is_limited() {
    for (text, detail) in [
        ("exec sleep 60", "timed out after 1.5 s"),
        (
            "echo asking; sleep 60 & wait",
            "timed out after 1.5 s: asking",
        ),
        (
            "trap '' TERM; echo stubborn; sleep 60; sleep 60",
            "timed out after 1.5 s: stubborn",
        ),
        ("exec yes", "timed out after 1.5 s: y"),
        ("exec >&- 2>&-; sleep 60", "timed out after 1.5 s"),
    ] {
        let start = Instant::now();
        let report = hasty(text).await;
        assert_eq!((report.health, &*report.detail), (Health::Down, detail));
        assert!(
            start.elapsed() < 8 * SECOND,
            "{text}: {:?}",
            start.elapsed()
        );
    }
    no_child_is_left().await;
}

/// Children of this process, dead ones included.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let stats =
        processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let after_name = stat.rsplit(") ").next().unwrap_or_default();
            after_name.split(' ').nth(1) == Some(&own)
        })
        .collect()
}

/// The runtime reaps at leisure.
async fn no_child_is_left() {
    let deadline = Instant::now() + 5 * SECOND;
    while !children().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", children());
        sleep(Duration::from_millis(10)).await;
    }
}

/// Runs until it has noted the process that it leaves in the background.
async fn noted(file: &Path) -> String {
    let deadline = Instant::now() + 5 * SECOND;
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "nothing was noted");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn is_gone(process: &str) {
    let deadline = Instant::now() + 5 * SECOND;
    let stat = format!("/proc/{process}/stat");
    // As long as nobody reaps it, it is a zombie, and runs no more.
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "{process} is still there");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_it_leaves_in_the_background_is_ended_with_the_script() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("process");
    let text = format!("sleep 1000 & echo $! > {}; echo done", file.display());
    let report = first(script(&text)).await;
    assert_eq!(report.health, Health::Up, "{}", report.detail);
    is_gone(&noted(&file).await).await;
    no_child_is_left().await;
}

/// A busy machine may be slower than the timeout, and then nothing was noted: once more.
#[tokio::test]
async fn what_it_leaves_in_the_background_is_ended_with_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("process");
    let text = format!("sleep 1000 & echo $! > {}; wait", file.display());
    for _ in 0..10 {
        let report = hasty(&text).await;
        assert_eq!(report.health, Health::Down, "{}", report.detail);
        if file.exists() {
            break;
        }
    }
    is_gone(&noted(&file).await).await;
    no_child_is_left().await;
}

#[tokio::test]
async fn it_ends_with_its_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("process");
    let (reports, _reported) = mpsc::channel(16);
    let text = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let monitor = Monitor::start(vec![script(&text)], reports);
    let process = noted(&file).await;
    monitor.stop();
    is_gone(&process).await;
    no_child_is_left().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_run_says_nothing_of_the_backend() {
    let mut target = script("");
    let command = vec!["/nowhere/check".to_owned()];
    target.check.kind = CheckKind::Script { command };
    let report = first(target).await;
    assert_eq!((report.health, report.changed), (Health::Checking, false));
    assert_eq!(
        report.detail,
        "not checked: cannot run /nowhere/check: no such file or directory"
    );
}
