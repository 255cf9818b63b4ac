//! How long it takes to classify a statement, and to count it by its digest: `cargo run --release -p lb-mysql --example classify`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use lb_mysql::digest::{Digests, Seen};
use lb_mysql::route::Reason;
use lb_mysql::sql::{Dialect, Family, classify};

const STATEMENTS: [(&str, &str); 5] = [
    ("point select", "SELECT c FROM sbtest1 WHERE id=4711"),
    (
        "point select, quoted",
        "SELECT `id`, `name`, `email` FROM `users` WHERE `users`.`id` = 4711 LIMIT 1",
    ),
    (
        "join",
        "SELECT o.id, o.total, c.name, COUNT(i.id) AS items, MAX(i.price) FROM orders AS o \
         INNER JOIN customers AS c ON c.id = o.customer_id LEFT JOIN items AS i ON i.order_id = o.id \
         WHERE o.created_at > DATE_SUB(NOW(), INTERVAL 7 DAY) AND c.country IN ('DE', 'FR') \
         GROUP BY o.id ORDER BY o.total DESC LIMIT 50",
    ),
    (
        "insert",
        "INSERT INTO sbtest1 (id, k, c, pad) VALUES (4711, 12345, \
         '68487932199-96439406143-93774651418-41631865787-96406072701', '67847967377-48000963322')",
    ),
    ("set", "SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci"),
];

fn main() {
    let dialect = Dialect::new(Family::MySql, 90_704);
    let seen = Seen {
        is_replica: true,
        reason: Reason::Read,
        took: Duration::from_micros(100),
        failed: false,
    };
    for (name, sql) in STATEMENTS {
        // Short enough that other programs do not come in between.
        let rounds = 1_000_u32;
        let mut best = f64::INFINITY;
        for _ in 0..1_000 {
            let began = Instant::now();
            for _ in 0..rounds {
                black_box(classify(black_box(sql.as_bytes()), dialect));
            }
            best = best.min(began.elapsed().as_secs_f64() / f64::from(rounds));
        }
        let mut digests = Digests::new(100);
        let mut counted = f64::INFINITY;
        for _ in 0..1_000 {
            let began = Instant::now();
            for _ in 0..rounds {
                digests.note(black_box(sql.as_bytes()), dialect, &seen);
            }
            counted = counted.min(began.elapsed().as_secs_f64() / f64::from(rounds));
        }
        println!(
            "{name:24} {:4} bytes {:7.0} ns, its digest {:7.0} ns",
            sql.len(),
            best * 1e9,
            counted * 1e9
        );
    }
}
