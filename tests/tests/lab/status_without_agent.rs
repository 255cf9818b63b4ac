//! `lb status` where there is no agent, or one that hangs: a sentence, in time.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::Lab;
use lb_tests::scenario::run;

#[test]
fn nobody_is_there() -> Result<()> {
    let lab = Lab::new()?;
    let socket = lab.folder().join("lb.sock");
    let path = socket.to_string_lossy();
    for arguments in [["status", "--socket", &path], ["--socket", &path, "status"]] {
        let outcome = run(&arguments)?;
        outcome.expect_sentence(1, &["there is no agent at", &path, "lb run"])?;
        ensure!(
            outcome.took < Duration::from_secs(4),
            "it took {:?}",
            outcome.took
        );
        ensure!(outcome.stdout.is_empty(), "stdout has {:?}", outcome.stdout);
    }
    // A socket that a dead agent left behind.
    drop(UnixListener::bind(&socket)?);
    run(&["status", "--json", "--socket", &path])?.expect_sentence(1, &["there is no agent at"])
}

#[test]
fn somebody_is_there_and_does_not_answer() -> Result<()> {
    let lab = Lab::new()?;
    let socket = lab.folder().join("lb.sock");
    let _silent = UnixListener::bind(&socket)?;
    let outcome = run(&["status", "--socket", &socket.to_string_lossy()])?;
    outcome.expect_sentence(1, &["did not answer within 5 s"])?;
    let took = outcome.took.as_secs_f64();
    ensure!((4.9..9.0).contains(&took), "it took {took} s");
    Ok(())
}
