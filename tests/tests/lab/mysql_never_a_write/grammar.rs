//! Statements that reads may look like, and those that look like reads.
//!
//! What comes out is words of the servers' grammar in mostly sensible places, so that many of the
//! statements are ones that a server executes, and a few that only begin as such.

use fastrand::Rng;
use lb_tests::database::Family;

use super::words::{COMPUTING, MORE, SEQUENCES, WRITING_FUNCTIONS};

/// Makes statements.
pub(super) struct Author<'r> {
    rng: &'r mut Rng,
    family: Family,
    words: Vec<String>,
}

impl<'r> Author<'r> {
    /// The words of a statement.
    pub(super) fn statement(rng: &'r mut Rng, family: Family) -> Vec<String> {
        let mut author = Self {
            rng,
            family,
            words: Vec::new(),
        };
        author.any();
        author.words
    }

    fn say(&mut self, words: &str) {
        let words = words.split(' ').filter(|word| !word.is_empty());
        self.words.extend(words.map(str::to_owned));
    }

    fn pick(&mut self, of: &[&str]) {
        let chosen = of[self.rng.usize(..of.len())];
        self.say(chosen);
    }

    /// With a chance of one in so many.
    fn once_in(&mut self, many: u32) -> bool {
        self.rng.u32(..many) == 0
    }

    fn any(&mut self) {
        match self.rng.u8(..20) {
            0..=11 => self.query(3),
            12 => {
                self.pick(&[
                    "EXPLAIN",
                    "DESC",
                    "DESCRIBE",
                    "EXPLAIN EXTENDED",
                    "EXPLAIN PARTITIONS",
                    "EXPLAIN FORMAT=JSON",
                    "EXPLAIN FORMAT = TREE",
                    "EXPLAIN ANALYZE",
                    "ANALYZE",
                    "ANALYZE FORMAT=JSON",
                    "EXPLAIN ANALYZE FORMAT=TREE",
                    "EXPLAIN FORMAT=JSON INTO @u1",
                    "EXPLAIN FOR SCHEMA shop",
                ]);
                if self.rng.bool() {
                    self.query(2);
                } else {
                    self.write();
                }
            }
            13 => self.write(),
            14 | 15 => self.pick(&[
                "TABLE a",
                "TABLE a ORDER BY id LIMIT 1",
                "TABLE a INTO OUTFILE 'out1'",
                "TABLE a LIMIT 1 INTO @u1 , @u2",
                "VALUES ROW(1, 2)",
                "VALUES (1)",
                "VALUES ROW(1) INTO @u1",
                "DO GET_LOCK('l1', 0)",
                "DO shop.f(1)",
                "DO SLEEP(0)",
                "CALL p()",
                "HANDLER a OPEN",
                "HANDLER a READ FIRST",
                "CHECKSUM TABLE a",
                "CHECK TABLE a",
                "ANALYZE TABLE a",
                "OPTIMIZE TABLE a",
                "HELP 'SELECT'",
                "ANALYZE TABLE a UPDATE HISTOGRAM ON id",
            ]),
            16 | 17 => {
                self.pick(&[
                    "SHOW TABLES",
                    "SHOW FULL TABLES",
                    "SHOW COLUMNS FROM a",
                    "SHOW FIELDS IN a",
                    "SHOW CREATE TABLE a",
                    "SHOW CREATE FUNCTION f",
                    "SHOW CREATE VIEW v",
                    "SHOW INDEX FROM a",
                    "SHOW KEYS FROM a",
                    "SHOW TRIGGERS",
                    "SHOW DATABASES",
                    "SHOW TABLE STATUS",
                    "SHOW PROCEDURE STATUS",
                    "SHOW FUNCTION STATUS",
                    "SHOW COLLATION",
                    "SHOW CHARACTER SET",
                    "SHOW GRANTS",
                    "SHOW EVENTS",
                    "SHOW OPEN TABLES",
                    "SHOW EXTENDED COLUMNS FROM a",
                    "DESC a",
                    "DESCRIBE a id",
                    "EXPLAIN a",
                    "SHOW PRIVILEGES",
                    "SHOW CREATE DATABASE shop",
                ]);
                if self.once_in(2) {
                    self.pick(&["LIKE 'a%'", "WHERE 1", "WHERE"]);
                    if self.words.last().is_some_and(|last| last == "WHERE") {
                        self.value(1);
                    }
                }
            }
            _ => {
                self.pick(&[
                    "SET @u1 = 7",
                    "SET STATEMENT max_statement_time=1 FOR",
                    "PREPARE s1 FROM",
                    "EXECUTE IMMEDIATE",
                    "BEGIN NOT ATOMIC",
                    "IF 1 THEN",
                    "START TRANSACTION ;",
                    "lbl : BEGIN NOT ATOMIC",
                    "XA START 'x'",
                    "SELECT 1 ;",
                    "; ;",
                    "EXECUTE s1",
                ]);
                self.query(1);
            }
        }
        if self.once_in(10) {
            self.pick(&[
                ";",
                "; -- x",
                "; SELECT 1",
                "; INSERT INTO log VALUES ( NULL )",
                "; ;",
            ]);
        }
    }

    fn write(&mut self) {
        self.pick(&[
            "UPDATE a SET name = name",
            "DELETE FROM b WHERE 0",
            "INSERT INTO log VALUES (NULL)",
            "INSERT log SET id = NULL",
            "REPLACE INTO b VALUES (9, 'x')",
            "TRUNCATE TABLE log",
            "INSERT INTO log VALUES (NULL) RETURNING id",
            "DELETE FROM log RETURNING id",
            "UPDATE a , b SET a.name = a.name WHERE a.id = b.id",
            "CREATE TABLE x1 SELECT 1",
            "CREATE TEMPORARY TABLE x2 SELECT 1",
            "LOAD DATA INFILE '/none' INTO TABLE log",
            "UPDATE log SET id = id",
            "DELETE a FROM a WHERE 0",
        ]);
    }

    fn query(&mut self, depth: u32) {
        if self.once_in(6) {
            self.say("WITH");
            if self.once_in(3) {
                self.say("RECURSIVE");
            }
            let count = self.rng.u8(1..3);
            for number in 0..count {
                self.say(if number > 0 { ", c2" } else { "c1" });
                if self.once_in(3) {
                    self.say("( k )");
                }
                self.say("AS (");
                self.query(depth.saturating_sub(1));
                self.say(")");
            }
            if self.once_in(4) {
                return self.write();
            }
        }
        if depth > 0 && self.once_in(6) {
            self.say("(");
            self.query(depth - 1);
            self.say(")");
        } else {
            self.select(depth);
        }
        if depth > 0 && self.once_in(6) {
            self.pick(&[
                "UNION",
                "UNION ALL",
                "UNION DISTINCT",
                "EXCEPT",
                "INTERSECT",
                "MINUS",
            ]);
            self.query(depth - 1);
        }
        if self.once_in(8) {
            self.pick(&[
                "ORDER BY 1",
                "LIMIT 1",
                "LIMIT 2 OFFSET 1",
                "OFFSET 1 ROW FETCH NEXT 1 ROWS ONLY",
            ]);
        }
        self.ending(8);
    }

    /// INTO and locks.
    fn ending(&mut self, many: u32) {
        if self.once_in(many) {
            self.pick(&[
                "INTO @u1",
                "INTO @u1 , @u2",
                "INTO OUTFILE 'out1'",
                "INTO DUMPFILE 'out2'",
                "FOR UPDATE",
                "FOR SHARE",
                "FOR UPDATE NOWAIT",
                "FOR UPDATE SKIP LOCKED",
                "FOR UPDATE OF a",
                "FOR SHARE OF a SKIP LOCKED",
                "LOCK IN SHARE MODE",
                "LOCK IN SHARE MODE NOWAIT",
                "INTO OUTFILE 'out3' FIELDS TERMINATED BY ','",
                "FOR UPDATE WAIT 1",
                "PROCEDURE ANALYSE()",
                "FOR UPDATE INTO @u1",
                "INTO @u1 FOR UPDATE",
            ]);
        }
    }

    fn select(&mut self, depth: u32) {
        self.say("SELECT");
        if self.once_in(6) {
            self.pick(&[
                "ALL",
                "DISTINCT",
                "DISTINCTROW",
                "HIGH_PRIORITY",
                "SQL_NO_CACHE",
                "STRAIGHT_JOIN",
                "SQL_CALC_FOUND_ROWS",
                "SQL_BUFFER_RESULT",
                "SQL_BIG_RESULT",
                "SQL_SMALL_RESULT",
                "/*+ NO_MERGE() */",
                "/*+ MAX_EXECUTION_TIME(1000) */",
                "/*+ SET_VAR(sort_buffer_size=32768) */",
            ]);
        }
        let count = self.rng.u8(1..4);
        for number in 0..count {
            if number > 0 {
                self.say(",");
            }
            self.value(depth);
            if self.once_in(5) {
                self.pick(&["AS x", "x", "AS 'x'", "'x'", "\"x\"", "AS `x y`"]);
            }
        }
        self.ending(30);
        if self.once_in(5) {
            if self.once_in(3) {
                self.say("FROM DUAL");
            }
            return;
        }
        self.say("FROM");
        self.tables(depth);
        if self.once_in(3) {
            self.say("WHERE");
            self.value(depth.saturating_sub(1));
        }
        if self.once_in(6) {
            self.say("GROUP BY");
            self.pick(&[
                "id",
                "1",
                "name WITH ROLLUP",
                "id HAVING 1",
                "id HAVING COUNT(*) > 0",
            ]);
        }
        if self.once_in(5) {
            self.say("ORDER BY");
            self.value(0);
        }
        if self.once_in(5) {
            self.pick(&[
                "LIMIT 1",
                "LIMIT 0",
                "LIMIT 1, 1",
                "LIMIT 1 OFFSET 0",
                "LIMIT ROWS EXAMINED 100",
            ]);
        }
        self.ending(6);
    }

    fn tables(&mut self, depth: u32) {
        self.pick(&[
            "a",
            "b",
            "shop.a",
            "`a`",
            "shop . b",
            "a AS q",
            "a q",
            "a USE INDEX ( PRIMARY )",
            "c1",
            "a JOIN b USING ( id )",
            "a LEFT JOIN b ON a.id = b.id",
            "a , b",
            "( a )",
            "a NATURAL JOIN b",
            "a CROSS JOIN b",
            "{ OJ a LEFT JOIN b ON a.id = b.id }",
            "a FORCE INDEX ( PRIMARY )",
            "information_schema.tables",
            "JSON_TABLE('[1]', '$[*]' COLUMNS ( id INT PATH '$' )) AS j",
            "a PARTITION ( p0 )",
            "a FOR SYSTEM_TIME ALL",
            "a , LATERAL ( SELECT 1 ) AS l",
            "s",
            "v",
        ]);
        if depth > 0 && self.once_in(5) {
            self.say(", (");
            self.query(depth - 1);
            self.say(") AS d");
        }
    }

    fn value(&mut self, depth: u32) {
        match self.rng.u8(..24) {
            0..=3 => self.pick(&[
                "1",
                "0",
                "NULL",
                "TRUE",
                "1.5",
                ".5",
                "1.",
                "1e3",
                "0x41",
                "x'41'",
                "b'1'",
                "-1",
                "'a'",
                "\"a\"",
                "'it''s'",
                "'a\\'b'",
                "'\\\\'",
                "\"a\"\"b\"",
                "N'a'",
                "_utf8mb4'a'",
                "'a' 'b'",
                "DATE '2020-01-01'",
                "'FOR UPDATE'",
                "`id`",
                "*",
                "5--3",
                "1e5",
                "\\N",
            ]),
            4..=6 => self.pick(&[
                "id",
                "name",
                "a.id",
                "a.name",
                "`name`",
                "shop.a.id",
                "COUNT(*)",
            ]),
            7..=9 => self.pick(&COMPUTING),
            10 => self.pick(&MORE),
            11 if self.family == Family::MariaDb => self.pick(&SEQUENCES),
            11..=14 => self.call(),
            15 => self.pick(&[
                "COUNT(DISTINCT id)",
                "SUM(id)",
                "GROUP_CONCAT(id ORDER BY id SEPARATOR ',')",
                "MAX(name)",
                "ROW_NUMBER() OVER (ORDER BY id)",
                "SUM(id) OVER ()",
                "FIRST_VALUE(id) OVER (PARTITION BY name)",
                "COUNT (*)",
                "JSON_ARRAYAGG(id)",
            ]),
            16 | 17 if depth > 0 => {
                self.pick(&["(", "EXISTS (", "1 IN (", "id = ANY (", "NOT EXISTS ("]);
                self.query(depth - 1);
                self.say(")");
            }
            18 | 19 if depth > 0 => {
                self.value(depth - 1);
                self.pick(&[
                    "+",
                    "-",
                    "=",
                    "<=>",
                    "AND",
                    "OR",
                    "XOR",
                    "LIKE",
                    "REGEXP",
                    "DIV",
                    "||",
                    "&&",
                    "IS NULL OR",
                    "BETWEEN 0 AND",
                    "COLLATE utf8mb4_bin =",
                    "*",
                    "%",
                    "<<",
                    "SOUNDS LIKE",
                ]);
                self.value(depth - 1);
            }
            20 if depth > 0 => {
                self.say("CASE WHEN");
                self.value(depth - 1);
                self.say("THEN");
                self.value(depth - 1);
                self.say("ELSE");
                self.value(depth - 1);
                self.say("END");
            }
            21 if depth > 0 => {
                self.pick(&[
                    "IF(",
                    "COALESCE(",
                    "CONCAT(",
                    "GREATEST(",
                    "abs (",
                    "ROW(",
                    "MAKE_SET(",
                ]);
                self.value(depth - 1);
                self.say(",");
                self.value(depth - 1);
                self.say(")");
            }
            _ => self.pick(&[
                "id",
                "1",
                "'x'",
                "name",
                "- id",
                "! id",
                "NOT id",
                "BINARY name",
                "~ 1",
            ]),
        }
    }

    /// A call that may be of a stored function.
    fn call(&mut self) {
        let name = WRITING_FUNCTIONS[self.rng.usize(..WRITING_FUNCTIONS.len())];
        let name = match self.rng.u8(..6) {
            0 => format!("`{name}`"),
            1 => format!("shop.{name}"),
            2 => format!("shop . `{name}`"),
            3 => name.to_uppercase(),
            _ => name.to_owned(),
        };
        let between = ["", "", " ", " /**/ ", "\n"][self.rng.usize(..5)];
        let arguments = [
            "1",
            "1",
            "1",
            "'a'",
            "",
            "1, 2",
            "id",
            "*",
            "DISTINCT id",
            "NULL",
        ];
        let arguments = arguments[self.rng.usize(..arguments.len())];
        // As one word: what stands between counts.
        self.words.push(format!("{name}{between}({arguments})"));
    }
}
