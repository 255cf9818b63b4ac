//! wrk, and what it says.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_lab::Lab;

/// What a load is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Requests on connections that stay.
    KeepAlive,
    /// A connection for each request.
    Close,
}

/// What wrk counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counted {
    pub(super) requests: f64,
    pub(super) per_second: f64,
    /// Latency in microseconds.
    pub(super) p50: f64,
    /// Latency in microseconds.
    pub(super) p99: f64,
    /// Failed connects, reads, writes and timeouts.
    pub(super) socket_errors: u64,
    /// Answers that are no 2xx or 3xx.
    pub(super) refused: u64,
}

/// Gives each of wrk's threads another server of the list in the arguments.
const TURNS: &str = r#"
local turn = 0
function setup(thread)
    turn = turn + 1
    thread.addr = wrk.lookup(servers[turn % #servers + 1], port)[1]
end
"#;

/// Loads the servers from the namespace `client` with two threads and 32 connections; several
/// servers are given to the threads in turn.
pub(super) fn run(
    lab: &Lab,
    servers: &[SocketAddr],
    load: Load,
    span: Duration,
) -> Result<Counted> {
    let first = servers.first().context("a load needs a server")?;
    let (span, url) = (format!("-d{}s", span.as_secs()), format!("http://{first}/"));
    let mut arguments = vec!["-t2", "-c32", &span, "--latency"];
    if load == Load::Close {
        arguments.extend(["-H", "Connection: close"]);
    }
    let script = lab.folder().join("turns.lua");
    let script_name = script.to_string_lossy().into_owned();
    if servers.len() > 1 {
        let hosts: Vec<_> = servers.iter().map(|s| format!("\"{}\"", s.ip())).collect();
        let head = format!(
            "local servers = {{ {} }}\nlocal port = \"{}\"\n",
            hosts.join(", "),
            first.port()
        );
        std::fs::write(&script, head + TURNS)?;
        arguments.extend(["-s", &script_name]);
    }
    arguments.push(&url);
    let text = lab
        .run("client", "wrk", &arguments)
        .context("is the package wrk installed?")?;
    parse(&text).with_context(|| format!("wrk says something else than usual: {text}"))
}

fn parse(text: &str) -> Option<Counted> {
    let mut counted = Counted::default();
    let mut lines_seen = 0;
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["50%", latency] => (counted.p50, lines_seen) = (micros(latency)?, lines_seen + 1),
            ["99%", latency] => (counted.p99, lines_seen) = (micros(latency)?, lines_seen + 1),
            [count, "requests", "in", ..] => {
                (counted.requests, lines_seen) = (count.parse().ok()?, lines_seen + 1);
            }
            ["Requests/sec:", rate] => {
                (counted.per_second, lines_seen) = (rate.parse().ok()?, lines_seen + 1);
            }
            ["Socket", "errors:", rest @ ..] => {
                let numbers = rest.iter().skip(1).step_by(2);
                let parsed = numbers.map(|n| n.trim_end_matches(',').parse::<u64>().ok());
                counted.socket_errors = parsed.sum::<Option<u64>>()?;
            }
            ["Non-2xx", .., count] => counted.refused = count.parse().ok()?,
            _ => {}
        }
    }
    (lines_seen == 4).then_some(counted)
}

fn micros(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)];
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit))?;
    Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::{Counted, parse};

    const OUTPUT: &str = "Running 2s test @ http://203.0.113.10:80/
  2 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   450.23us  312.11us   9.12ms   92.10%
    Req/Sec    17.30k     1.02k   19.80k    70.00%
  Latency Distribution
     50%  418.00us
     75%  530.00us
     90%  700.00us
     99%    2.50ms
  69000 requests in 2.00s, 11.05MB read
  Socket errors: connect 1, read 2, write 0, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:  34500.12
Transfer/sec:      5.52MB
";

    #[test]
    fn what_wrk_says_is_read() {
        let expected = Counted {
            requests: 69000.0,
            per_second: 34500.12,
            p50: 418.0,
            p99: 2500.0,
            socket_errors: 7,
            refused: 5,
        };
        assert_eq!(parse(OUTPUT), Some(expected));
        assert_eq!(parse("unable to connect to 203.0.113.10:80"), None);
    }
}
