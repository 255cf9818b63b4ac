//! `[mysql]`: calls of stored functions go to a replica when the function says that it reads, and
//! come out right when it lies; and connections that were others' have the client's character set.

use anyhow::{Result, ensure};
use lb_tests::database::Family;

use crate::mysql_proxy::{Routed, one_host};

fn functions_run_where_they_say_and_liars_at_the_primary(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let routed = Routed::start(&lab, family, "")?;
    let function = |name: &str, says: &str, does: &str| {
        format!("CREATE FUNCTION shop.{name}() RETURNS INT {says} BEGIN {does} RETURN 7; END")
    };
    let insert = "INSERT INTO shop.items SELECT COUNT(*), 0 FROM shop.items;";
    for (name, says, does) in [
        ("reader", "READS SQL DATA", ""),
        ("pure", "DETERMINISTIC", ""),
        ("writer", "DETERMINISTIC MODIFIES SQL DATA", insert),
        ("liar", "READS SQL DATA", insert),
        ("setter", "READS SQL DATA", "SET @a = 1;"),
    ] {
        let created = function(name, says, does);
        routed.sql_of("app", &["--delimiter=//"], &created)?;
    }
    routed.pair.write(2)?;
    routed.pair.await_copy(2)?;
    let (one, two) = ("1\t7", "2\t7");
    for (name, expected) in [
        // It is asked about at its first call.
        ("reader", [one, two, two]),
        ("pure", [one, two, two]),
        ("writer", [one, one, one]),
        ("setter", [one, one, one]),
        ("liar", [one, one, one]),
    ] {
        let call = format!("SELECT @@server_id, shop.{name}();").repeat(3);
        let said = routed.sql(&call)?;
        ensure!(said == expected, "{name}: {said:?}");
    }
    let said = routed.sql("SELECT COUNT(*) FROM shop.items")?;
    ensure!(said == ["6"], "{said:?}");
    // Whatever was known is asked again once it may have changed.
    let changed = format!(
        "DROP FUNCTION shop.reader; {}",
        function("reader", "DETERMINISTIC MODIFIES SQL DATA", "")
    );
    routed.sql_of(
        "app",
        &["--delimiter=//"],
        &changed.replace("; CREATE", "// CREATE"),
    )?;
    let said = routed.sql(&"SELECT @@server_id, shop.reader();".repeat(3))?;
    ensure!(said == [one; 3], "{said:?}");
    let status = routed.status()?;
    ensure!(status["errors"]["turned_back"] == 0, "{status}");
    Ok(())
}

/// What it does stands in another function. With MariaDB that is enough for it to be none that reads.
fn a_write_that_a_replica_refuses_runs_at_the_primary(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let routed = Routed::start(&lab, family, "")?;
    routed.pair.primary.run(
        "CREATE USER plain@'%' IDENTIFIED BY 'plain'; GRANT SELECT, INSERT, EXECUTE ON shop.* TO \
         plain@'%'",
    )?;
    let writer = "CREATE DEFINER = plain@'%' FUNCTION shop.writer() RETURNS INT DETERMINISTIC BEGIN \
                  INSERT INTO shop.items SELECT COUNT(*), 0 FROM shop.items; RETURN 7; END";
    let liar = "CREATE DEFINER = plain@'%' FUNCTION shop.liar() RETURNS INT READS SQL DATA RETURN \
                shop.writer()";
    for function in [writer, liar] {
        routed.sql_of("app", &["--delimiter=//"], function)?;
    }
    routed.pair.write(2)?;
    routed.pair.await_copy(2)?;
    let said = routed.sql(&"SELECT @@server_id, shop.liar();".repeat(3))?;
    ensure!(said == ["1\t7"; 3], "{said:?}");
    let status = routed.status()?;
    let turned_back = status["errors"]["turned_back"].as_u64() > Some(0);
    ensure!(turned_back == (family == Family::MySql), "{status}");
    let said = routed.sql("SELECT COUNT(*) FROM shop.items")?;
    ensure!(said == ["3"], "{said:?}");
    Ok(())
}

fn a_used_connection_has_the_clients_character_set(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let routed = Routed::start(&lab, family, "")?;
    let asked = "SELECT /* lb:replica */ @@character_set_client, @@character_set_results";
    for _ in 0..3 {
        for charset in ["latin1", "utf8mb4", "cp1250"] {
            let option = format!("--default-character-set={charset}");
            let said = routed.sql_of("app", &[&option], asked)?;
            ensure!(said == [format!("{charset}\t{charset}")], "{said:?}");
        }
    }
    Ok(())
}

of_both_families!(
    functions_run_where_they_say_and_liars_at_the_primary,
    a_write_that_a_replica_refuses_runs_at_the_primary,
    a_used_connection_has_the_clients_character_set
);
