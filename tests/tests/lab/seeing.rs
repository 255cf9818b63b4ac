//! What the agent tells of itself by TCP: metrics that agree with the status, events that come once,
//! a log that programs can read.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::Namespace;
use lb_tests::in_both_modes;
use lb_tests::scenario::{Farm, Mode, await_until, names};
use serde_json::Value;

use crate::web;

in_both_modes!(
    metrics_agree_with_the_status_and_promtool,
    a_change_is_one_event_and_one_line_of_the_log
);

const DEADLINE: Duration = Duration::from_secs(10);
const LISTEN: &str = "127.0.0.1:9900";

/// `GET` inside a namespace: the status code and the body.
fn get(namespace: &Namespace, path: &str) -> Result<(u16, String)> {
    let address: SocketAddr = LISTEN.parse()?;
    let answer = namespace.within(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: lb\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let code = head.split(' ').nth(1).context("no status line")?;
    Ok((code.parse()?, body.to_owned()))
}

fn farm(mode: Mode) -> Result<Farm> {
    Farm::start(mode, 3, |config| {
        config
            .admin("listen", LISTEN)
            .agent("log_format", "json")
            .service(Farm::web(3))
    })
}

fn metrics_agree_with_the_status_and_promtool(mode: Mode) -> Result<()> {
    let farm = farm(mode)?;
    let balancer = farm.lab.namespace("lb")?;
    names(&farm.lab, web(), 12)?;
    ensure!(get(balancer, "/readyz")? == (200, "{\"ready\":true}\n".to_owned()));
    let labels = "{service=\"web\",backend=\"web1\"}";
    // The last packets of a connection may come between the two.
    let page = await_until(DEADLINE, "both say the same", || {
        let (code, page) = get(balancer, "/metrics")?;
        ensure!(code == 200, "{page}");
        let status = farm.agent.status()?;
        let backend = status.backend("web", "web1")?;
        for (name, value) in [
            (
                "lb_backend_connections_total",
                backend.number("connections")?,
            ),
            ("lb_backend_packets_total", backend.number("packets")?),
            ("lb_backend_bytes_total", backend.number("bytes")?),
            ("lb_backend_up", 1),
        ] {
            let line = format!("{name}{labels} {value}");
            ensure!(page.lines().any(|own| own == line), "{line}\n{page}");
        }
        Ok(page)
    })?;
    let drops = "lb_verdicts_total{verdict=\"drop_no_backend\"} 0";
    ensure!(page.lines().any(|own| own == drops), "{page}");
    let checks = format!("lb_backend_check_duration_seconds_count{labels} ");
    let count = page.lines().find_map(|line| line.strip_prefix(&checks));
    let count: u64 = count.context("no checks")?.parse()?;
    ensure!(count >= 1, "{count} checks");

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool is in the package prometheus: `cargo xtask setup`")?;
    let mut stdin = promtool.stdin.take().context("no stdin")?;
    stdin.write_all(page.as_bytes())?;
    drop(stdin);
    let output = promtool.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && said.is_empty(), "{said}");
    Ok(())
}

fn a_change_is_one_event_and_one_line_of_the_log(mode: Mode) -> Result<()> {
    let mut farm = farm(mode)?;
    let balancer = farm.lab.namespace("lb")?;
    let down = |entries: &[Value]| {
        let is_ours = |entry: &&Value| entry["kind"] == "backend_down";
        entries.iter().filter(is_ours).cloned().collect::<Vec<_>>()
    };
    farm.servers[1].stop()?;
    let event = await_until(DEADLINE, "there is an event", || {
        let (code, page) = get(balancer, "/events.json?since=0&wait=5")?;
        ensure!(code == 200, "{page}");
        let page: Value = serde_json::from_str(&page)?;
        let mut found = down(page["events"].as_array().context("no events")?);
        ensure!(found.len() == 1, "{page}");
        found.pop().context("none")
    })?;
    ensure!(
        event["service"] == "web" && event["backend"] == "web2",
        "{event}"
    );
    ensure!(event["level"] == "warn", "{event}");
    farm.agent.await_log(&["\"backend_down\""])?;
    let mut log = farm.agent.log();
    // Without a line that is being written.
    log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let lines: Vec<Value> = lines.collect::<Result<_, _>>().context(log)?;
    let logged = down(&lines);
    ensure!(logged.len() == 1, "{logged:?}");
    ensure!(logged[0]["message"] == event["message"], "{logged:?}");
    let listed = farm.agent.asked(&["events"])?.expect_success()?;
    let ours = listed
        .lines()
        .filter(|line| line.contains("web/web2 is down"));
    ensure!(ours.count() == 1, "{listed}");
    Ok(())
}
