//! The client: a resolver of its own, and curl as its browser.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::Lab;
use crate::process::Process;

use super::certificate::Authority;
use super::{NAME, VIP, patience, write_command};

const NAMESPACE: &str = "client";
const RESOLVER: &str = "127.0.0.53";

/// Runs a program with the client's resolver, which the machine keeps out of sight of all others.
const WITH_RESOLVER: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";

/// Who asks for pages.
#[derive(Debug)]
pub struct Client {
    resolver: Process,
    resolv_conf: PathBuf,
    ca: PathBuf,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// Lines of the head but the first.
    head: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// How long it took.
    pub took: Duration,
}

impl Client {
    pub(super) fn start(lab: &Lab, authority: &Authority) -> Result<Self> {
        let folder = lab.sub_folder("dns")?;
        let resolv_conf = folder.join("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {RESOLVER}\n"))?;
        let mut command = lab.command(NAMESPACE, "/usr/sbin/dnsmasq")?;
        command.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
        ]);
        command.args([
            "--bind-interfaces",
            "--log-facility=-",
            "--conf-file=/dev/null",
        ]);
        command.arg(format!("--listen-address={RESOLVER}"));
        command.arg(format!("--pid-file={}", folder.join("pid").display()));
        command.arg(format!("--address=/{NAME}/{VIP}"));
        let client = Self {
            resolver: lab.spawn("dnsmasq", command)?,
            resolv_conf,
            ca: authority.certificate(),
        };
        let resolved = patience::await_until(patience::LONG, "the name resolves", || {
            let output = client
                .command(lab, "getent")?
                .args(["ahostsv4", NAME])
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(text.contains(&VIP.to_string()), "{text:?}");
            Ok(())
        });
        resolved.with_context(|| client.resolver.log())?;
        for program in ["curl", "wrk", "getent"] {
            let extra = if program == "curl" {
                format!("--cacert '{}'", client.ca.display())
            } else {
                String::new()
            };
            let text = format!(
                "#!/bin/sh\nexec unshare --mount sh -c '{WITH_RESOLVER}' '{}' /usr/bin/{program} {extra} \"$@\"\n",
                client.resolv_conf.display(),
            );
            write_command(lab, NAMESPACE, program, &text)?;
        }
        Ok(client)
    }

    /// A command in the client's namespace that finds names by the client's resolver.
    ///
    /// # Errors
    /// When there is no such namespace.
    pub fn command(&self, lab: &Lab, program: &str) -> Result<Command> {
        let mut command = lab.command(NAMESPACE, "unshare")?;
        command
            .args(["--mount", "sh", "-c", WITH_RESOLVER])
            .arg(&self.resolv_conf)
            .arg(program)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// curl with the deployment's authority, and what more is wanted.
    ///
    /// # Errors
    /// When there is no such namespace.
    pub fn curl(&self, lab: &Lab, words: &[&str]) -> Result<Command> {
        let mut command = self.command(lab, "curl")?;
        command
            .arg("--silent")
            .arg("--show-error")
            .arg("--cacert")
            .arg(&self.ca);
        command.args(words);
        Ok(command)
    }

    /// A path of the site over HTTPS, on a new connection.
    ///
    /// # Errors
    /// When there is no answer within five seconds.
    pub fn get(&self, lab: &Lab, path: &str) -> Result<Answer> {
        self.ask(lab, &[&format!("https://{NAME}{path}")])
    }

    /// What curl makes of these words.
    ///
    /// # Errors
    /// When there is no answer within five seconds.
    pub fn ask(&self, lab: &Lab, words: &[&str]) -> Result<Answer> {
        let began = Instant::now();
        let output = self
            .curl(lab, &["--include", "--max-time", "5"])?
            .args(words)
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", error.trim());
        let text = String::from_utf8_lossy(&output.stdout);
        Answer::parse(&text, began.elapsed()).with_context(|| format!("no HTTP: {text:?}"))
    }
}

impl Answer {
    fn parse(text: &str, took: Duration) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.strip_prefix("HTTP/")?.split(' ');
        let version = first.next()?.to_owned();
        let status = first.next()?.parse().ok()?;
        let field = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        };
        Some(Self {
            status,
            version,
            head: lines.filter_map(field).collect(),
            body: body.to_owned(),
            took,
        })
    }

    /// A field of the head, by its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.head.iter().find(|(one, _)| one == name);
        field.map(|(_, value)| value.as_str())
    }

    /// The app host that answered.
    ///
    /// # Errors
    /// When the answer does not say, or is none of success.
    pub fn served_by(&self) -> Result<String> {
        ensure!(self.status < 400, "status {}: {}", self.status, self.body);
        let name = self
            .header("x-backend")
            .context("who answered is not said")?;
        Ok(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Answer;

    #[test]
    fn heads_of_both_versions_are_read() {
        let text = "HTTP/2 200 \r\nX-Backend: app1\r\n\r\nhello";
        let answer = Answer::parse(text, Duration::ZERO).unwrap();
        assert_eq!((answer.status, &*answer.version), (200, "2"));
        assert_eq!(answer.served_by().unwrap(), "app1");
        assert_eq!(answer.body, "hello");
        let text = "HTTP/1.1 301 Moved Permanently\r\nLocation: https://a/\r\n\r\n";
        let answer = Answer::parse(text, Duration::ZERO).unwrap();
        assert_eq!(answer.header("location"), Some("https://a/"));
    }
}
