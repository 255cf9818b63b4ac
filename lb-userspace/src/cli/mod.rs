//! The command `lb`: its arguments, its output, its exit status.
//!
//! No other module prints, and none but this one knows exit codes.

mod backend;
mod capture;
mod capture_file;
mod check;
mod detach;
mod docs;
mod doctor;
mod events;
mod firewall;
mod flow_page;
mod flows;
mod import;
mod live;
mod live_screen;
mod logging;
mod man;
mod mysql;
mod mysql_change;
mod mysql_digests;
mod mysql_page;
mod mysql_sessions;
mod mysql_top;
mod output;
mod prepare;
mod reload;
mod run;
mod sessions;
mod status;
mod status_page;
mod top;
mod why;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    agent::Invocation,
    config,
    flow_list::{self, ClientFilter, Query},
};

/// Where an agent listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/lb/lb.sock";

/// An XDP load balancer: steers connections to backends at the network card.
#[derive(Debug, Parser)]
#[command(name = "lb", version)]
struct Arguments {
    /// Admin socket of the agent [default: /run/lb/lb.sock; for `run` the config's]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Attach to the interfaces and steer, in the foreground, until SIGTERM or SIGINT
    ///
    /// Needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN. Logs go to stderr;
    /// agent.log_level in the config, or the environment variable LB_LOG, sets how much: error, warn,
    /// info, debug or trace.
    Run {
        /// Config file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Interface where steering attaches, instead of those that the config names in
        /// agent.interfaces; may be given several times
        #[arg(long = "interface", value_name = "IF")]
        interfaces: Vec<String>,
        /// Replace tables that an earlier agent left, whatever their layout, for example to have
        /// those of another size: live connections are copied as far as they can be. The packaged
        /// unit takes it from /etc/default/lb: LB_OPTIONS=--replace-tables
        #[arg(long)]
        replace_tables: bool,
    },
    /// Hand pins and files over to a user that `lb run` will be started as; needs root
    ///
    /// For service managers, which run it once before `lb run`: finds or mounts the BPF file system,
    /// makes the pin path, and makes it, /run/lb and /var/lib/lb that user's with what an agent of
    /// root left there. The user then needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.
    Prepare {
        /// Config file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Who will run it
        #[arg(long, value_name = "USER")]
        user: String,
    },
    /// Report every problem of a config file, and change nothing
    Check {
        /// Config file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print the effective config: the file's, with every default written out and marked. It
        /// is itself a config file
        #[arg(long)]
        explain: bool,
    },
    /// Find what keeps packets from being forwarded, each with its cure
    ///
    /// Needs root, and no running agent; one that runs is asked too. Nothing is changed; backends get
    /// a ping. Exit status is 0 when nothing is wrong. With --json it is one document, {"healthy":
    /// true, "findings": [...]}, each finding with "severity" (error, warning, note), "check",
    /// "subject", "found", "why" and "cure".
    Doctor {
        /// Config file [default: the running agent's, else /etc/lb/lb.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Write our config from the file of another balancer
    ///
    /// What has no equivalent, and what has to be filled in, stands in the config as a comment with
    /// its line there, and is told on stderr.
    Import(import::Arguments),
    /// Show services, backends and counters of the running agent
    Status {
        /// As one JSON document
        #[arg(long)]
        json: bool,
        /// Only say whether steering is attached everywhere, by the exit status: for keepalived
        #[arg(long, conflicts_with = "json")]
        ready: bool,
    },
    /// Change backends while they serve: weight, drain, maintenance
    #[command(subcommand)]
    Backend(backend::Command),
    /// See and change whose packets are dropped by their source
    #[command(subcommand)]
    Firewall(firewall::Command),
    /// Read the config file again and go on with what it says
    ///
    /// It happens as a whole or not at all; connections of what does not change notice nothing.
    /// SIGHUP does the same. Exit status 2 when the file has problems, or says something that takes
    /// a restart; each is told.
    Reload {
        /// As one JSON document
        #[arg(long)]
        json: bool,
        /// Also if the firewall cuts off who is logged in to this host
        #[arg(long)]
        force: bool,
    },
    /// Watch services and backends on the terminal, and change them by keys
    ///
    /// Keys: q ends it; s sorts by the next column, r turns the order; arrows, j and k select a
    /// backend; d drains it, y makes it ready again, m puts it into maintenance, + and - change its
    /// weight, R goes back to what the config says. Changes are those of `lb backend set`.
    Top(live::Arguments),
    /// List the flows of the running agent's data path: who talks to which backend
    ///
    /// Flows that have expired are not among them. The list is written while it is read, in no
    /// order; what begins or ends meanwhile may be missing. With --json it is one document,
    /// {"flows": [...], "total": N}, with a flow on each line: "protocol", "client", "service",
    /// "service_address", "backend", "backend_address", "state" and "expires_in_seconds". "total"
    /// is how many there are, also of those that --limit leaves out.
    Flows {
        /// Only those of this service
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
        /// Only those of this backend: SERVICE/BACKEND, or BACKEND for every service that has one
        /// of that name
        #[arg(long, value_name = "BACKEND")]
        backend: Option<String>,
        /// Only those of this client or prefix: 10.1.2.3, 10.1.0.0/16, 10.1.2.3:40000,
        /// 2001:db8::/32, [2001:db8::1]:40000
        #[arg(long, value_name = "CLIENT")]
        client: Option<ClientFilter>,
        /// Only those in this state: established (for UDP: answered, or a second datagram came),
        /// half-open, closed (kept for a moment for late packets)
        #[arg(long, value_name = "STATE")]
        state: Option<flow_list::State>,
        /// List at most so many
        #[arg(long, value_name = "N", conflicts_with = "count")]
        limit: Option<u64>,
        /// Say only how many there are
        #[arg(long)]
        count: bool,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show what happened lately: backends up and down, changes, warnings
    ///
    /// The agent keeps the last 1000 lines of its log, from info on. With --json each has
    /// "sequence", "time", "level", "kind" (a word such as backend_down), "message", and, where it
    /// is about one, "service" and "backend"; the document also has "next", the number to go on
    /// from with --since, and "lost", how many of those after --since are not known any more.
    Events(events::Arguments),
    /// Write packets, and what became of each, to a file for Wireshark
    ///
    /// Packets are those that come in where steering is attached, before they are changed. The
    /// comments of a packet say its verdict, and the decisions that led there. Until it ends, by
    /// --count, --seconds or Ctrl-C, a slower copy of the program is attached; packets that come
    /// faster than they are read are steered and counted, and missing in the file. Needs Linux 5.18.
    Capture(capture::Arguments),
    /// Say what would become of a packet, and why
    ///
    /// The running agent lets a copy of its program decide, on the tables as they are: nothing is
    /// sent, counted or changed by it. For a packet of a live connection ask with --flags ack; for
    /// a reply of a backend, from the backend's address and port to the client's.
    Why(why::Arguments),
    /// See what becomes of MySQL statements
    #[command(subcommand)]
    Mysql(mysql::Command),
    /// Remove the programs and pins of a stopped or dead agent
    Detach {
        /// Config file that names the pin path
        #[arg(long, value_name = "FILE", conflicts_with = "pin_path")]
        config: Option<PathBuf>,
        /// Directory with the pins [default: /sys/fs/bpf/lb]
        #[arg(long, value_name = "DIR")]
        pin_path: Option<PathBuf>,
    },
    /// Print a completion script
    Completions {
        /// Shell to complete for
        shell: Shell,
    },
    /// Write the reference pages
    #[command(hide = true)]
    GenDocs {
        /// Folder of the pages
        #[arg(long, value_name = "DIR", default_value = "lb-userspace/docs")]
        out: PathBuf,
        /// Only say which pages are stale
        #[arg(long)]
        check: bool,
    },
    /// Write the manual pages
    #[command(hide = true)]
    GenMan {
        /// Folder of the pages
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
enum Failure {
    /// Wrong usage or config.
    Wrong(anyhow::Error),
    /// It went wrong at run time.
    Failed(anyhow::Error),
}

impl Failure {
    fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(error.into())
    }

    fn report(&self) -> ExitCode {
        let (Self::Wrong(error) | Self::Failed(error)) = self;
        output::complain(&format!("lb: {}", sentence(error)));
        match self {
            Self::Wrong(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

/// The error and its causes, but those that it names itself.
fn sentence(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse_from(env::args_os().map(mysql::shield)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version arrive here too; a closed pipe is no reason to complain.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn execute(Arguments { socket, command }: Arguments) -> Result<(), Failure> {
    match command {
        Command::Run {
            config,
            interfaces,
            replace_tables,
        } => run::run(Invocation {
            config_file: config,
            interfaces,
            replace_tables,
            socket,
        }),
        Command::Backend(command) => backend::backend(
            socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)),
            command,
        ),
        Command::Firewall(command) => firewall::firewall(
            socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)),
            command,
        ),
        Command::Reload { json, force } => {
            let socket = socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
            reload::reload(socket, json, force)
        }
        Command::Check { config, explain } => check::check(&config, explain),
        Command::Prepare { config, user } => prepare::prepare(&config, &user),
        Command::Doctor { config, json } => doctor::doctor(config, socket.as_deref(), json),
        Command::Import(arguments) => import::import(&arguments),
        Command::Status { json, ready } => {
            let socket = socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
            if ready {
                status::ready(socket)
            } else {
                status::status(socket, json)
            }
        }
        Command::Flows {
            service,
            backend,
            client,
            state,
            limit,
            count,
            json,
        } => {
            let query = Query {
                service,
                backend,
                client,
                state,
                limit,
                count,
            };
            let socket = socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
            flows::flows(socket, &query, json)
        }
        Command::Top(arguments) => {
            let socket = socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
            top::top(socket, &arguments)
        }
        Command::Events(arguments) => {
            let socket = socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
            events::events(socket, &arguments)
        }
        Command::Capture(arguments) => {
            let socket = socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
            capture::capture(socket, &arguments)
        }
        Command::Why(arguments) => why::why(
            socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)),
            &arguments,
        ),
        Command::Mysql(command) => mysql::mysql(
            socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET)),
            command,
        ),
        Command::Detach { config, pin_path } => detach::detach(config.as_deref(), pin_path),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "lb", &mut script);
            output::print(&script)
        }
        Command::GenDocs { out, check } => docs::write_or_check(&out, check),
        Command::GenMan { out } => man::write(&out),
    }
}

/// The config of a file, with other interfaces if some are given; its problems go to stderr, one a
/// line.
fn load(file: &Path, interfaces: &[String]) -> Result<config::Loaded, Failure> {
    loaded(config::load_with(file, interfaces))
}

/// What was made of a config that was read; its problems go to stderr, one a line.
fn loaded<T>(result: Result<T, config::Error>) -> Result<T, Failure> {
    result.map_err(|error| match error {
        config::Error::Invalid(problems) => {
            output::complain(&problems.to_string());
            let count = output::count(problems.list.len(), "problem");
            Failure::Wrong(anyhow::anyhow!("{count} in {}", problems.file))
        }
        config::Error::Read { .. } | config::Error::TooLarge { .. } => Failure::Wrong(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("permission denied");
        let named = error.context("cannot open eth0: permission denied");
        assert_eq!(sentence(&named), "cannot open eth0: permission denied");
        let further = named.context("cannot start");
        assert_eq!(
            sentence(&further),
            "cannot start: cannot open eth0: permission denied"
        );
    }

    #[test]
    fn interfaces_come_one_by_one() {
        let line = "lb run --config f --interface eth0 --interface eth1.100";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Run { interfaces, .. } = arguments.command else {
            panic!("{arguments:?}");
        };
        assert_eq!(interfaces, ["eth0", "eth1.100"]);
    }

    #[test]
    fn the_socket_goes_before_or_after_the_subcommand() {
        for line in [
            ["lb", "--socket", "/s", "status"],
            ["lb", "status", "--socket", "/s"],
        ] {
            let arguments = Arguments::try_parse_from(line).unwrap();
            assert_eq!(arguments.socket.as_deref(), Some(Path::new("/s")));
        }
    }
}
