//! What the monitor makes of real servers, and plans that change their roles: no agent, only the
//! questions, the state machine and the plans of `lb-mysql`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use lb_lab::Lab;
use lb_mysql::gtid;
use lb_mysql::monitor::{self, Table};
use lb_mysql::topology::plan::{self, Answer, End, Order, Plan, ReplicationAccount, Times};
use lb_mysql::topology::{
    Event, Observation, Primary, Reads, ServerSettings, Settings, Topology, Trouble, Version,
    WantedRole,
};
use lb_tests::database::{Database, Family, Pair};
use lb_tests::scenario::await_until;

const PATIENCE: Duration = Duration::from_secs(30);
const MAX_LAG: Duration = Duration::from_secs(2);

/// Two servers, watched.
struct Watched<'l> {
    pair: Pair<'l>,
    topology: Topology,
    settings: Settings,
    begin: Instant,
    told: Vec<String>,
}

/// What a client wrote, as an answer with rows.
fn table(text: &str) -> Table {
    let mut lines = text.lines();
    let names = lines.next().unwrap_or_default();
    let value = |value: &str| {
        let plain = value.replace("\\n", "\n");
        (value != "NULL").then(|| plain.into_bytes())
    };
    Table {
        names: names.split('\t').map(str::to_owned).collect(),
        rows: lines
            .map(|line| line.split('\t').map(value).collect())
            .collect(),
    }
}

fn ask(server: &Database<'_>) -> Result<Observation, Trouble> {
    let run = |sql: &str| server.table(sql);
    let version = server
        .run("SELECT VERSION()")
        .map_err(|_| Trouble::Refused)?;
    let version = Version::parse(version.trim());
    let questions = monitor::questions(&version);
    let answer = |sql| run(sql).map_err(|error| Trouble::Answer(error.to_string()));
    let (state, channels) = (answer(questions.state)?, answer(questions.channels)?);
    let channels = if channels.is_empty() {
        Table::default()
    } else {
        table(&channels)
    };
    monitor::observation(&version, &table(&state), Ok(&channels)).map_err(Trouble::Answer)
}

impl<'l> Watched<'l> {
    fn start(lab: &'l Lab, family: Family) -> Result<Self> {
        let place = |port: u16| ("db", ([127, 0, 0, 1], port).into());
        let pair = Pair::start(lab, family, place(3301), place(3302))?;
        let server = |name: &str, port| ServerSettings {
            name: name.into(),
            host: "127.0.0.1".to_owned(),
            port,
            weight: 1,
            role: WantedRole::Auto,
            tls: false,
        };
        let settings = Settings {
            servers: vec![server("one", 3301), server("two", 3302)],
            max_lag: MAX_LAG,
            fall: 2,
            stale_after: Duration::from_secs(60),
        };
        Ok(Self {
            pair,
            topology: Topology::new(settings.clone(), None),
            settings,
            begin: Instant::now(),
            told: Vec::new(),
        })
    }

    fn server(&self, index: usize) -> &Database<'l> {
        [&self.pair.primary, &self.pair.replica][index]
    }

    /// Asks both once.
    fn look(&mut self) {
        for index in 0..2 {
            let seen = ask(self.server(index));
            let events = self.topology.observe(self.begin.elapsed(), index, seen);
            self.told.extend(events.iter().map(Event::to_string));
        }
    }

    /// The primary's name or why there is none, the epoch, and why `two` and `one` are not read.
    fn verdict(&self) -> String {
        let view = self.topology.view();
        let primary = match &view.primary {
            Primary::Server(index) => view.servers[*index].name.to_string(),
            Primary::Nobody(why) => format!("nobody: {why}"),
        };
        let reads = view.servers.iter().map(|server| match &server.reads {
            Reads::Yes { .. } => format!("{}: yes", server.name),
            Reads::No(why) => format!("{}: {why}", server.name),
        });
        let reads: Vec<String> = reads.collect();
        format!("{} {primary}; {}", view.epoch, reads.join("; "))
    }

    fn await_verdict(&mut self, wanted: &str) -> Result<()> {
        await_until(PATIENCE, wanted, || {
            self.look();
            let found = self.verdict();
            ensure!(found.contains(wanted), "{found}\n{}", self.told.join("\n"));
            Ok(())
        })
    }

    /// Carries a plan out.
    fn drive(&mut self, mut plan: Plan) -> Result<()> {
        while let Some(order) = plan.next_order() {
            let answer = match &order {
                Order::HoldWrites { .. } | Order::ReleaseWrites | Order::HoldLease { .. } => {
                    Answer::Done(None)
                }
                Order::Run {
                    server, statements, ..
                } => {
                    let sql: Vec<&str> = statements.iter().map(|one| one.sql()).collect();
                    match self.server(*server).run(&sql.join("; ")) {
                        Ok(text) => {
                            let last = text.lines().next_back().unwrap_or_default();
                            Answer::Done(Some(last.replace("\\n", "\n").into_bytes()))
                        }
                        Err(error) => Answer::Refused(format!("{error:#}")),
                    }
                }
            };
            plan.answered(&answer);
            // Meanwhile the monitor goes on.
            self.look();
        }
        let report = plan.report().join("\n");
        ensure!(plan.end() == Some(End::Done), "{report}");
        ensure!(!report.contains("by hand"), "{report}");
        Ok(())
    }

    /// Writes to a server, and waits on the other by GTID until it is there.
    fn write(&self, primary: usize, number: u32) -> Result<()> {
        let sql = format!("INSERT INTO pair.writes VALUES ({number})");
        self.server(primary).run(&sql)?;
        let executed = ask(self.server(primary)).map_err(|trouble| anyhow!("{trouble}"))?;
        let executed = executed.executed.context("it has no GTIDs")?;
        let wait = executed
            .wait_statement(PATIENCE)
            .context("nothing was written")?;
        let replica = self.server(1 - primary);
        let waited = replica.run(&wait)?;
        let waited = gtid::waited(Some(waited.trim().as_bytes()));
        ensure!(waited == gtid::Waited::Reached, "{waited:?}");
        let has = gtid::has_statement(&executed).context("nothing was written")?;
        let has = replica.run(&has)?;
        ensure!(has.trim() == "0", "{has}");
        let sql = format!("SELECT COUNT(*) FROM pair.writes WHERE number = {number}");
        let count = replica.run(&sql)?;
        ensure!(
            count.trim() == "1",
            "it was not there after the wait: {count}"
        );
        Ok(())
    }
}

fn times() -> Times {
    Times {
        hold: Duration::from_secs(1),
        catch_up: Duration::from_secs(20),
        statement: Duration::from_secs(10),
    }
}

fn account() -> ReplicationAccount {
    ReplicationAccount::new("copy".to_owned(), "copy".to_owned())
}

fn roles_are_followed_and_changed(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let mut lab = Lab::new()?;
    lab.add("db")?.ip("link set lo up")?;
    let mut watched = Watched::start(&lab, family)?;
    watched.await_verdict("1 one; one: yes; two: yes")?;
    watched.write(0, 1)?;

    // Threads stop, one by one.
    let replica = if family == Family::MySql {
        "REPLICA"
    } else {
        "SLAVE"
    };
    for (thread, reason) in [
        ("SQL_THREAD", "its SQL thread is stopped"),
        ("IO_THREAD", "its IO thread is stopped"),
    ] {
        watched
            .pair
            .replica
            .run(&format!("STOP {replica} {thread}"))?;
        watched.await_verdict(reason)?;
        watched.pair.replica.run(&format!("START {replica}"))?;
        watched.await_verdict("two: yes")?;
    }

    // It is told to be behind.
    watched.pair.apply_after(600)?;
    watched.pair.write(2)?;
    watched.await_verdict(" s behind")?;
    watched.pair.apply_after(0)?;
    watched.await_verdict("two: yes")?;

    // A planned change, and back.
    for (from, to, epoch) in [(0, "two", 2), (1, "one", 3)] {
        let view = watched.topology.view();
        let plan = plan::switchover(&watched.settings, view, to, times(), Some(&account()))
            .map_err(|objections| anyhow!(objections.join("\n")))?;
        watched.drive(plan)?;
        watched.await_verdict(&format!("{epoch} {to}; one: yes; two: yes"))?;
        watched.write(1 - from, 10 + epoch)?;
    }

    // The primary goes; its replica is read from, and takes its place.
    watched.pair.primary.stop()?;
    watched
        .await_verdict("3 nobody: the primary one is not reached: nobody listens there; one: ")?;
    watched.await_verdict("two: yes")?;
    let view = watched.topology.view();
    let plan = plan::failover(&watched.settings, view, None, times(), false)
        .map_err(|objections| anyhow!(objections.join("\n")))?;
    watched.drive(plan)?;
    watched.await_verdict("4 two; one: nobody listens there; two: yes")?;
    watched
        .pair
        .replica
        .run("INSERT INTO pair.writes VALUES (20)")?;

    // It returns, still takes writes, and is not believed.
    watched.pair.primary.start_again()?;
    watched.await_verdict("4 two; one: it takes writes beside the primary; two: yes")?;
    let told = "more than one server takes writes: two, which is the primary, and one; writes go to \
                two only (set read_only on the one that is wrong)";
    ensure!(
        watched.told.iter().any(|line| line == told),
        "{}",
        watched.told.join("\n")
    );
    watched.pair.primary.run("SET GLOBAL read_only = 1")?;
    watched.await_verdict("one: it replicates from nobody and is not the primary")?;
    Ok(())
}

#[test]
fn roles_of_mysql_are_followed_and_changed() -> Result<()> {
    roles_are_followed_and_changed(Family::MySql)
}

#[test]
fn roles_of_mariadb_are_followed_and_changed() -> Result<()> {
    roles_are_followed_and_changed(Family::MariaDb)
}
