//! The kernel has more to tell than the agent's socket has room for, and drops the rest: the agent
//! says so once, reads all anew and goes on with what is true now.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, await_until, expect_rotation, names};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::discovery::PATIENCE;
use crate::{WEBS, web};

/// More news than fit into the 8 MiB that the agent's socket may have at most.
const ROUTES: u16 = 30_000;

in_both_modes!(what_was_missed_is_read_anew);

fn what_was_missed_is_read_anew(mode: Mode) -> Result<()> {
    let farm = Farm::of_three(mode)?;
    let balancer = farm.lab.namespace("lb")?;
    expect_rotation(&names(&farm.lab, web(), 6)?, &WEBS)?;
    let agent = Pid::from_raw(farm.agent.pid().cast_signed());
    let batch = |verb: &str| {
        (0..ROUTES).fold(String::new(), |mut text, number| {
            let [high, low] = number.to_be_bytes();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "route {verb} 10.99.{high}.{low}/32 dev lc");
            text
        })
    };
    for round in 0..2u8 {
        kill(agent, Signal::SIGSTOP)?;
        balancer.ip_batch(&batch("add"))?;
        // Of this it hears nothing: replies go to a MAC that it does not know.
        balancer.ip(&format!("link set dev lb2 address 02:00:00:00:09:0{round}"))?;
        farm.lab.namespace("web2")?.ip("neigh flush dev e2")?;
        kill(agent, Signal::SIGCONT)?;
        await_until(PATIENCE, "all three answer again", || {
            expect_rotation(&names(&farm.lab, web(), 9)?, &WEBS)
        })?;
        balancer.ip_batch(&batch("del"))?;
    }
    let log = farm.agent.log();
    let told = log.matches("missed what the kernel told").count();
    ensure!(told == 1, "told {told} times: {log}");
    Ok(())
}
