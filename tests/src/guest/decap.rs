//! The program of app hosts: every row of it, and both ways to attach it.

use std::{collections::HashMap, time::Instant};

use anyhow::{Context, Result};
use aya::programs::XdpMode;
use serde_json::{Value, json};

use super::{Veth, last_lines, outcome};
use crate::decap::{Kernel, Row, all};

/// Frames that the kernel takes for a test run are not shorter.
const SHORTEST: usize = 15;

/// Loads and runs it, and says what came of it as an object for the matrix.
#[must_use]
pub fn try_decap(veth: &Veth) -> Value {
    let began = Instant::now();
    let mut found = measure(veth)
        .unwrap_or_else(|error| json!({ "refused": last_lines(&format!("{error:#}")) }));
    found["variant"] = "decap".into();
    found["seconds"] = began.elapsed().as_secs_f64().into();
    found
}

fn measure(veth: &Veth) -> Result<Value> {
    let mut kernels: HashMap<String, Kernel> = HashMap::new();
    let mut failures = Vec::new();
    let mut played = 0;
    for row in all().iter().filter(|row| row.frame.len() >= SHORTEST) {
        let key = format!("{:?}", row.rules);
        if !kernels.contains_key(&key) {
            kernels.insert(key.clone(), Kernel::load(&row.rules)?);
        }
        let kernel = kernels.get_mut(&key).context("it was just loaded")?;
        played += 1;
        failures.extend(play(kernel, row).err().map(|error| format!("{error:#}")));
    }
    let mut verified = 0;
    for kernel in kernels.values_mut() {
        verified = verified.max(kernel.verified()?);
    }
    let kernel = kernels.values_mut().next().context("no rows")?;
    Ok(json!({
        "verified": verified,
        "native": outcome(attach(kernel, veth, XdpMode::Driver)),
        "generic": outcome(attach(kernel, veth, XdpMode::Skb)),
        "rows": played,
        "rows_passed": played - failures.len(),
        "failures": failures,
    }))
}

fn play(kernel: &mut Kernel, row: &Row) -> Result<()> {
    let left = kernel.run(&row.frame).with_context(|| row.name.clone())?;
    anyhow::ensure!(
        left.verdict == row.verdict,
        "{}: {:?} instead of {:?}",
        row.name,
        left.verdict,
        row.verdict
    );
    let difference = row
        .out
        .as_ref()
        .and_then(|out| lb_packets::difference(out, &left.frame));
    difference.map_or(Ok(()), |what| Err(anyhow::anyhow!("{}: {what}", row.name)))
}

fn attach(kernel: &mut Kernel, veth: &Veth, mode: XdpMode) -> Result<()> {
    let program = kernel.program()?;
    let link = program.attach_to_if_index(veth.balancer, mode)?;
    Ok(program.detach(link)?)
}
