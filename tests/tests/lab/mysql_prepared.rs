//! Prepared statements by the binary protocol: what belongs to one follows it, whatever server that
//! is, and ids stay the client's. The same words to the primary itself and through the proxy have
//! to give the same.

use anyhow::{Context, Result, ensure};
use lb_mysql::wire::Capabilities;
use lb_tests::database::Family;

use crate::mysql_bed::{Bed, PRIMARY, PROXY, log_in, one_host};
use crate::mysql_client::Client;

const CURSOR: u8 = 1;
// Commands by their first byte.
const LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;
const RESET: u8 = 0x1a;
const RESET_CONNECTION: u8 = 0x1f;
/// Statements that are prepared and closed again without being executed.
const UNUSED: usize = 60;

/// A session, and what it was told.
struct Told {
    client: Client,
    schema: String,
    words: Vec<String>,
}

impl Told {
    fn note(&mut self, what: &str, said: &str) {
        self.words.push(format!("{what}: {said}"));
    }

    /// Of a statement whose number is nobody's business.
    fn note_of(&mut self, id: u32, what: &str, said: &str) {
        // Which of its functions a server names is its own business.
        let said = said.split(" given to ").next().unwrap_or_default();
        self.note(what, &said.replace(&format!("({id})"), "(N)"));
    }

    fn query(&mut self, sql: &str) -> Result<()> {
        let said = self.client.query(sql)?;
        self.note(sql, &said);
        Ok(())
    }

    /// Its id; a refusal is told.
    fn prepare(&mut self, sql: &str) -> Result<u32> {
        match self.client.prepare(sql)? {
            Ok(id) => {
                self.note(sql, "prepared");
                Ok(id)
            }
            Err(refused) => {
                self.note(sql, &refused);
                Ok(0)
            }
        }
    }

    fn execute(&mut self, id: u32, parameters: &[Option<&str>]) -> Result<()> {
        let said = self.client.execute(id, (0, true), parameters)?;
        self.note_of(id, "execute", &said);
        Ok(())
    }

    fn fetch(&mut self, id: u32, rows: u32) -> Result<()> {
        let said = self.client.fetch(id, rows)?;
        self.note_of(id, "fetch", &said);
        Ok(())
    }

    fn long_data(&mut self, id: u32, parameter: u16, data: &[u8]) -> Result<()> {
        let (id, parameter) = (id.to_le_bytes(), parameter.to_le_bytes());
        self.client
            .say(&[&[LONG_DATA][..], &id, &parameter, data].concat())
    }

    fn close(&mut self, id: u32) -> Result<()> {
        self.client.say(&[&[CLOSE][..], &id.to_le_bytes()].concat())
    }

    fn reset(&mut self, id: u32) -> Result<()> {
        let said = self
            .client
            .command(&[&[RESET][..], &id.to_le_bytes()].concat())?;
        self.note_of(id, "reset", &said);
        Ok(())
    }
}

/// What a session is told, all of it.
fn session(port: u16, schema: &str, more: Capabilities) -> Result<Vec<String>> {
    let mut told = Told {
        client: log_in(port, Some(schema), more)?,
        schema: schema.to_owned(),
        words: Vec::new(),
    };
    told.query("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")?;
    told.query("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")?;
    for part in [executions, cursors, long_data, ends] {
        let done = part(&mut told);
        done.with_context(|| format!("on {port}, after {:?}", told.words.last()))?;
    }
    Ok(told.words)
}

fn executions(told: &mut Told) -> Result<()> {
    let read = told.prepare("SELECT id, v FROM t WHERE id >= ? ORDER BY id")?;
    let write = told.prepare("INSERT INTO t VALUES (?, ?)")?;
    told.execute(read, &[Some("1")])?;
    // The types are those of the execution before.
    for parameters in [[Some("2")], [None], [Some("3")]] {
        let said = told.client.execute(read, (0, false), &parameters)?;
        told.note("without types", &said);
    }
    told.query("BEGIN")?;
    let said = told.client.execute(read, (0, false), &[Some("3")])?;
    told.note("in a transaction", &said);
    told.execute(write, &[Some("4"), Some("d")])?;
    let said = told.client.execute(write, (0, false), &[Some("5"), None])?;
    told.note("without types", &said);
    told.execute(read, &[Some("3")])?;
    told.query("ROLLBACK")?;
    told.execute(read, &[Some("3")])?;
    told.execute(write, &[Some("1"), Some("twice")])?;
    told.query("START TRANSACTION READ ONLY")?;
    told.execute(read, &[Some("3")])?;
    told.execute(write, &[Some("6"), Some("no")])?;
    told.query("COMMIT")?;
    told.execute(read, &[Some("3")])?;
    // Names are in the schema of the preparation, functions in that of now.
    let both = told.prepare("SELECT DATABASE(), COUNT(*) FROM t")?;
    told.query("USE pair")?;
    told.execute(both, &[])?;
    told.execute(read, &[Some("3")])?;
    told.query("SELECT COUNT(*) FROM writes")?;
    told.query("SELECT COUNT(*) FROM t")?;
    told.execute(both, &[])?;
    // Columns come and go.
    told.query("CREATE TABLE changing (a INT)")?;
    let all = told.prepare("SELECT * FROM changing")?;
    told.execute(all, &[])?;
    told.query("ALTER TABLE changing ADD b INT")?;
    told.execute(all, &[])?;
    told.query("DROP TABLE changing")?;
    told.execute(all, &[])
}

fn cursors(told: &mut Told) -> Result<()> {
    let rows = told.prepare("SELECT 1 AS a UNION ALL SELECT 2 UNION ALL SELECT 3")?;
    let said = told.client.execute(rows, (CURSOR, true), &[])?;
    told.note("cursor", &said);
    told.fetch(rows, 1)?;
    told.query("SELECT 5")?;
    told.fetch(rows, 1)?;
    told.fetch(rows, 5)?;
    told.query("SELECT 6")?;
    let said = told.client.execute(rows, (CURSOR, true), &[])?;
    told.note("cursor", &said);
    told.query("BEGIN")?;
    told.fetch(rows, 2)?;
    told.query("COMMIT")?;
    told.reset(rows)?;
    told.fetch(rows, 1)?;
    let said = told.client.execute(rows, (CURSOR, true), &[])?;
    told.note("cursor", &said);
    // (MySQL never answers an execution without a cursor after one with it.)
    told.reset(rows)?;
    let said = told.client.execute(rows, (CURSOR, true), &[])?;
    told.note("cursor", &said);
    told.close(rows)?;
    told.query("SELECT 7")
}

fn long_data(told: &mut Told) -> Result<()> {
    told.query(&format!("USE {}", told.schema.clone()))?;
    told.prepare("INSERT INTO long_data VALUES (?, ?)")?;
    told.query("CREATE TABLE long_data (id INT PRIMARY KEY, v LONGTEXT)")?;
    let write = told.prepare("INSERT INTO long_data VALUES (?, ?)")?;
    told.long_data(write, 1, b"one ")?;
    told.long_data(write, 1, b"two")?;
    told.execute(write, &[Some("1"), Some("")])?;
    told.query("SELECT * FROM long_data")?;
    told.long_data(write, 1, b"forgotten")?;
    told.reset(write)?;
    told.execute(write, &[Some("2"), Some("short")])?;
    told.query("SELECT * FROM long_data ORDER BY id")?;
    let read = told.prepare("SELECT LENGTH(?)")?;
    told.long_data(read, 0, &[b'x'; 70_000])?;
    told.query("BEGIN")?;
    told.execute(read, &[Some("")])?;
    told.query("COMMIT")?;
    told.execute(read, &[Some("four")])
}

fn ends(told: &mut Told) -> Result<()> {
    let read = told.prepare("SELECT 8")?;
    told.close(read)?;
    told.execute(read, &[])?;
    for id in [0, 4711] {
        told.execute(id, &[])?;
        told.fetch(id, 1)?;
        told.reset(id)?;
    }
    told.prepare("SELECT missing FROM t")?;
    told.prepare("SELEC 1")?;
    told.prepare("")?;
    told.query("SET @a = 9")?;
    let read = told.prepare("SELECT @a, DATABASE()")?;
    told.execute(read, &[])?;
    let said = told.client.command(&[RESET_CONNECTION])?;
    told.note("reset connection", &said);
    told.execute(read, &[])?;
    let read = told.prepare("SELECT @a, DATABASE()")?;
    told.execute(read, &[])
}

fn prepared_statements_are_as_at_the_primary(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let bed = Bed::start(&lab, family)?;
    bed.pair
        .primary
        .run("CREATE DATABASE direct; CREATE DATABASE routed")?;
    let new = Capabilities::DEPRECATE_EOF.with(Capabilities::QUERY_ATTRIBUTES);
    for more in [Capabilities::NONE, new] {
        lab.within("db", || {
            let direct = session(PRIMARY, "direct", more)?;
            let routed = session(PROXY, "routed", more)?;
            for (index, (direct, routed)) in direct.iter().zip(&routed).enumerate() {
                let routed = routed.replace("routed", "direct");
                ensure!(
                    *direct == routed,
                    "{index}: directly {direct}\nrouted {routed}"
                );
            }
            ensure!(direct.len() == routed.len());
            let mut client = log_in(PROXY, None, more)?;
            for number in 0..UNUSED {
                let id = client.prepare(&format!("SELECT {number}"))?;
                let id = id.map_err(anyhow::Error::msg)?;
                client.say(&[&[CLOSE][..], &id.to_le_bytes()].concat())?;
            }
            anyhow::Ok(())
        })??;
        for server in [&bed.pair.primary, &bed.pair.replica] {
            let count = server.run("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'")?;
            let count = count.split_whitespace().last().context("no count")?;
            ensure!(count.parse::<usize>()? < UNUSED / 2, "{count} are kept");
        }
        let again = "DROP DATABASE direct; DROP DATABASE routed; CREATE DATABASE direct; CREATE \
                     DATABASE routed";
        bed.pair.primary.run(again)?;
    }
    Ok(())
}

of_both_families!(prepared_statements_are_as_at_the_primary);
