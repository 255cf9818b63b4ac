//! `COM_CHANGE_USER` as MariaDB's clients send it: who one is afterwards, what is left of the session,
//! and what becomes of one that is refused.

use anyhow::{Result, ensure};
use lb_mysql::wire::Capabilities;
use lb_tests::database::Family;

use crate::mysql_bed::{Bed, PRIMARY, PROXY, log_in, one_host};
use crate::mysql_client::Client;

const WHO: &str = "SELECT CURRENT_USER(), DATABASE(), @a, @@sql_mode = '', \
                   IS_FREE_LOCK('changing')";

/// What a client sees after each step, until it is lost.
fn changes(port: u16) -> Result<Vec<String>> {
    let long = "u".repeat(300);
    let mut words = Vec::new();
    for changes in [
        &[
            ("other", "secret", "pair"),
            ("app", "app", ""),
            ("app", "app", "pair"),
        ][..],
        &[("app", "wrong", "pair"), ("other", "secret", "")],
        &[("nobody", "word", "pair"), ("app", "app", "pair")],
        &[
            ("other", "", ""),
            ("", "", ""),
            ("app", "app", "nowhere"),
            ("app", "app", "pair"),
        ],
        &[
            (&long, "word", "pair"),
            ("app", "app", "pair"),
            ("nobody", "", ""),
            ("nobody", "", ""),
        ],
    ] {
        let mut client = log_in(port, Some("mysql"), Capabilities::NONE)?;
        for (user, password, database) in changes {
            for statement in [
                "SET @a = 1, sql_mode = ''",
                "BEGIN",
                "SELECT GET_LOCK('changing', 1)",
                "CREATE TEMPORARY TABLE pair.own (number INT)",
            ] {
                words.push(format!("{statement}: {}", client.query(statement)?));
            }
            words.push(client.change_user((user, password), database)?);
            match step(&mut client) {
                Ok(said) => words.push(said),
                Err(_) => {
                    words.push("lost".to_owned());
                    break;
                }
            }
        }
    }
    Ok(words)
}

fn step(client: &mut Client) -> Result<String> {
    let mut said = client.query(WHO)?;
    said += &client.query("SELECT COUNT(*) FROM pair.own")?;
    said += &client.query("INSERT INTO pair.writes VALUES (0)")?;
    Ok(said)
}

fn a_user_is_changed_as_at_the_primary(family: Family) -> Result<()> {
    if !family.is_there()? {
        return Ok(());
    }
    let lab = one_host()?;
    let _bed = Bed::start(&lab, family)?;
    lab.within("db", || {
        let (direct, routed) = (changes(PRIMARY)?, changes(PROXY)?);
        for (direct, routed) in direct.iter().zip(&routed) {
            ensure!(
                direct == routed,
                "directly {direct}\nrouted {routed}\nof {direct:#?}"
            );
        }
        ensure!(direct.len() == routed.len(), "{direct:#?}\n{routed:#?}");
        Ok(())
    })??;
    Ok(())
}

of_both_families!(a_user_is_changed_as_at_the_primary);
