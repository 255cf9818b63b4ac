//! Checks of servers that speak MySQL's protocol, badly or not at all. Real ones are asked in the
//! lab.

use std::net::SocketAddr;

use lb_userspace::{
    config::model::{CheckKind, HealthCheck, Mysql, Require, Tls, Trust},
    health::Health,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{SECOND, check, first, target};

fn mysql(require: Require, max_lag: Option<u32>) -> HealthCheck {
    let kind = CheckKind::Mysql(Mysql {
        user: "lbmon".to_owned(),
        password_file: None,
        require,
        max_lag: max_lag.map(|seconds| SECOND * seconds),
        tls: Tls {
            sni: None,
            trust: Trust::Anyone,
            may_be_nameless: true,
        },
    });
    HealthCheck {
        timeout: 2 * SECOND,
        ..check(kind)
    }
}

fn framed(sequence: u8, packet: &[u8]) -> Vec<u8> {
    let mut framed = (packet.len() as u32).to_le_bytes().to_vec();
    framed[3] = sequence;
    framed.extend_from_slice(packet);
    framed
}

fn greeting() -> Vec<u8> {
    let mut packet = b"\x0a8.0.36\0\x08\0\0\0abcdefgh\0".to_vec();
    packet.extend_from_slice(b"\xff\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\0\0\0\0");
    packet.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
    framed(0, &packet)
}

/// A result with one row.
fn result(names: &[&str], values: &[Option<&str>]) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let mut packets = vec![vec![names.len() as u8]];
    for name in names {
        let mut definition: Vec<u8> = ["def", "", "", ""].into_iter().flat_map(text).collect();
        definition.extend(text(name));
        definition.extend_from_slice(b"\0\x0c\x3f\0\x15\0\0\0\x08\x81\0\0\0\0");
        packets.push(definition);
    }
    packets.push(b"\xfe\0\0\x02\0".to_vec());
    let value = |value: &Option<&str>| value.map_or(vec![0xfb], text);
    packets.push(values.iter().flat_map(value).collect());
    packets.push(b"\xfe\0\0\x02\0".to_vec());
    let numbered = packets.iter().zip(1..);
    numbered
        .flat_map(|(packet, sequence)| framed(sequence, packet))
        .collect()
}

async fn packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.ok()?;
    let mut packet = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut packet).await.ok()?;
    Some(packet)
}

/// A server that takes any login, or answers it so, and has these answers to queries.
async fn server(
    greeting: Vec<u8>,
    login: Vec<u8>,
    answers: Vec<(&'static str, Vec<u8>)>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (greeting, login, answers) = (greeting.clone(), login.clone(), answers.clone());
            tokio::spawn(async move {
                let _ = stream.write_all(&greeting).await;
                packet(&mut stream).await?;
                let _ = stream.write_all(&login).await;
                loop {
                    let query = packet(&mut stream).await?;
                    let answer = answers
                        .iter()
                        .find(|(sql, _)| query.ends_with(sql.as_bytes()));
                    let unknown = framed(1, b"\xff\x28\x04#42000what?");
                    let answer = answer.map_or(&unknown, |(_, answer)| answer);
                    let _ = stream.write_all(answer).await;
                }
                #[allow(unreachable_code, reason = "says what the block gives")]
                Some(())
            });
        }
    });
    address
}

fn welcome() -> Vec<u8> {
    framed(2, b"\0\0\0\x02\0\0\0")
}

const ROLE: &str = "SELECT @@global.read_only";

#[tokio::test]
async fn the_role_and_the_lag_are_judged() {
    let status = |lag, error| {
        let names = ["Channel_Name", "seconds_behind_master", "Last_IO_Error"];
        result(&names, &[Some(""), lag, Some(error)])
    };
    for (read_only, lag, require, most, health, detail) in [
        (
            "0",
            None,
            Require::Any,
            None,
            Health::Up,
            "MySQL primary in ",
        ),
        (
            "0",
            None,
            Require::Primary,
            None,
            Health::Up,
            "MySQL primary in ",
        ),
        (
            "1",
            None,
            Require::Any,
            None,
            Health::Up,
            "MySQL replica in ",
        ),
        (
            "ON",
            None,
            Require::Replica,
            None,
            Health::Up,
            "MySQL replica in ",
        ),
        (
            "1",
            None,
            Require::Primary,
            None,
            Health::Down,
            "the server is read-only, and no primary",
        ),
        (
            "OFF",
            None,
            Require::Replica,
            None,
            Health::Down,
            "the server is not read-only, and no replica",
        ),
        (
            "1",
            Some(status(Some("3"), "")),
            Require::Any,
            Some(10),
            Health::Up,
            "MySQL replica 3 s behind in ",
        ),
        (
            "1",
            Some(status(Some("11"), "")),
            Require::Any,
            Some(10),
            Health::Down,
            "replication is 11 s behind, and max_lag_seconds is 10",
        ),
        (
            "1",
            Some(status(None, "no route")),
            Require::Any,
            Some(10),
            Health::Down,
            "replication has stopped: no route",
        ),
    ] {
        let mut answers = vec![(ROLE, result(&["@@global.read_only"], &[Some(read_only)]))];
        answers.extend(lag.map(|lag| ("SHOW SLAVE STATUS", lag)));
        let address = server(greeting(), welcome(), answers).await;
        let report = first(target("a", address, mysql(require, most))).await;
        assert_eq!(report.health, health, "{}", report.detail);
        assert!(
            report.detail.starts_with(detail),
            "{detail}: {}",
            report.detail
        );
        let is_known = detail.contains(" behind");
        assert_eq!(report.lag.is_some(), is_known, "{}", report.detail);
    }
}

#[tokio::test]
async fn refusals_and_strangers_are_told_in_a_sentence() {
    let denied = framed(2, b"\xff\x15\x04#28000Access denied for user 'lbmon'");
    let other_plugin = framed(2, b"\xfeauth_gssapi_client\0nonce\0");
    let bad_key = [
        framed(2, b"\xfesha256_password\0abcdefghijklmnopqrst\0"),
        framed(4, b"\x01-----BEGIN PUBLIC KEY-----\nnone\n"),
    ];
    let full = framed(0, b"\xff\x10\x04Too many connections");
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "secret").unwrap();
    for (greeting, login, detail) in [
        (
            greeting(),
            denied,
            "MySQL error 1045: Access denied for user 'lbmon'",
        ),
        (
            greeting(),
            other_plugin,
            "the server wants a login by auth_gssapi_client, which lb does not know; let the user \
             have caching_sha2_password, or a plugin of MariaDB's own",
        ),
        (
            greeting(),
            bad_key.concat(),
            "the server has no TLS, and its RSA key cannot encrypt the password; switch its TLS on",
        ),
        (full, Vec::new(), "MySQL error 1040: Too many connections"),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            Vec::new(),
            "the answer is not MySQL",
        ),
        (framed(0, b"\x09old"), Vec::new(), "the answer is not MySQL"),
        (
            b"\xff\xff\xff\0".to_vec(),
            Vec::new(),
            "the answer is not MySQL",
        ),
        (
            greeting(),
            b"\x05\0\0\x02\0".to_vec(),
            "timed out after 2.0 s",
        ),
    ] {
        let answers = Vec::new();
        let address = server(greeting, login, answers).await;
        let mut check = mysql(Require::Any, None);
        if let CheckKind::Mysql(mysql) = &mut check.kind {
            mysql.password_file = Some(password.path().to_owned());
        }
        let report = first(target("a", address, check)).await;
        assert_eq!((report.health, &*report.detail), (Health::Down, detail));
    }
}

#[tokio::test]
async fn rows_without_end_are_not_read() {
    let mut endless = vec![framed(1, b"\x01")];
    endless.push(framed(2, b"\x03def\0\0\0\x01x\0"));
    endless.push(framed(3, b"\xfe\0\0\x02\0"));
    endless.extend((4..250).map(|sequence| framed(sequence, b"\x01x")));
    for answer in [
        endless.concat(),
        framed(1, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff"),
    ] {
        let address = server(greeting(), welcome(), vec![(ROLE, answer)]).await;
        let report = first(target("a", address, mysql(Require::Any, None))).await;
        assert_eq!(
            (report.health, &*report.detail),
            (Health::Down, "the answer is not MySQL")
        );
    }
}

#[tokio::test]
async fn a_password_that_cannot_be_read_says_nothing_of_the_backend() {
    let address = server(greeting(), welcome(), Vec::new()).await;
    let mut check = mysql(Require::Any, None);
    if let CheckKind::Mysql(mysql) = &mut check.kind {
        mysql.password_file = Some("/nowhere/password".into());
    }
    let report = first(target("a", address, check)).await;
    assert_eq!((report.health, report.changed), (Health::Checking, false));
    assert_eq!(
        report.detail,
        "not checked: password_file /nowhere/password: no such file or directory"
    );
}
