//! Users register, and are found again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::{Audience, Foobar, NAME, patience, proxy};

/// What is written goes to the primary, what is read comes from the replica: as the page, the
/// proxies and the servers themselves say.
pub(super) fn written_and_read(foobar: &mut Foobar, audience: Audience<'_>) -> Result<()> {
    let before = sent(foobar)?;
    let by_form = [
        "--data",
        "name=Ada&email=ada@example.org",
        &format!("https://{NAME}/users"),
    ];
    let answer = foobar.client.ask(&foobar.lab, &by_form)?;
    ensure!(
        answer.status == 303 && answer.header("location") == Some("/"),
        "status {}: {}",
        answer.status,
        answer.body
    );
    let id = register(foobar, "Grace")?;
    let list = await_user(foobar, id)?;
    ensure!(list["server"] == 2, "read from server {}", list["server"]);
    let [writes, reads] = sent(foobar)?;
    ensure!(
        writes >= before[0] + 2,
        "{writes} statements to the primary"
    );
    ensure!(reads > before[1], "{reads} statements to the replica");
    (audience.seen)(&format!(
        "user {id} was written to db1; {} users were read from db{}",
        list["count"], list["server"]
    ));
    Ok(())
}

/// Registers a user by JSON, and gives the number.
pub(super) fn register(foobar: &Foobar, name: &str) -> Result<u64> {
    let user = serde_json::json!({ "name": name, "email": "who@example.org" });
    let words = [
        "--json",
        &user.to_string(),
        "--max-time",
        "15",
        &format!("https://{NAME}/users"),
    ];
    let answer = foobar.client.ask(&foobar.lab, &words)?;
    ensure!(
        answer.status == 201,
        "status {}: {}",
        answer.status,
        answer.body
    );
    let value: Value = serde_json::from_str(&answer.body)?;
    value["id"].as_u64().with_context(|| answer.body.clone())
}

/// Waits until the list, which comes from a replica, has the user.
pub(super) fn await_user(foobar: &Foobar, id: u64) -> Result<Value> {
    patience::await_until(Duration::from_secs(5), "the user is in the list", || {
        let list = list(foobar)?;
        let users = list["users"].as_array().context("no users")?;
        ensure!(users.iter().any(|user| user["id"] == id), "{list}");
        Ok(list)
    })
}

/// What the site tells of its users.
pub(super) fn list(foobar: &Foobar) -> Result<Value> {
    let answer = foobar.client.get(&foobar.lab, "/users")?;
    ensure!(
        answer.status == 200,
        "status {}: {}",
        answer.status,
        answer.body
    );
    serde_json::from_str(&answer.body).with_context(|| answer.body.clone())
}

/// How many statements both proxies have sent to the primary and to the replica.
fn sent(foobar: &Foobar) -> Result<[u64; 2]> {
    let mut sum = [0, 0];
    for agent in &foobar.proxies {
        for (total, count) in sum.iter_mut().zip(proxy::statements(agent)?) {
            *total += count;
        }
    }
    Ok(sum)
}
