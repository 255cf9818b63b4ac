"""What an application does by PyMySQL and by mysql-connector-python, with all that it is told, so
that two runs can be compared: one at a server, one through the proxy.

dbapi.py DRIVER PORT TLS, where DRIVER is pymysql, connector or connector-pure, and TLS is tls or
plain."""

import os
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")
driver, port, tls = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tls"

if driver == "pymysql":
    import pymysql as module
    from pymysql.constants import CLIENT
else:
    import mysql.connector as module


def connect(user="app", password="app", **more):
    if driver == "pymysql":
        if tls:
            more["ssl"] = {"check_hostname": False}
        else:
            more["ssl_disabled"] = True
        return module.connect(host="127.0.0.1", port=port, user=user, password=password,
                              local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS, **more)
    return module.connect(host="127.0.0.1", port=port, user=user, password=password,
                          use_pure=driver == "connector-pure", ssl_disabled=not tls,
                          allow_local_infile=True, **more)


def say(*words):
    text = " ".join(repr(word) for word in words)
    print(text if len(text) < 500 else f"{text[:200]}... {len(text)} {hash_of(text)}")


def hash_of(text):
    import hashlib
    return hashlib.sha256(text.encode()).hexdigest()


def attempt(name, work):
    try:
        say(name, work())
    except module.Error as error:
        code = error.args[0] if driver == "pymysql" else error.errno
        text = error.args[-1] if driver == "pymysql" else error.msg
        say(name, "error", code, getattr(error, "sqlstate", None), text)


def run(connection, sql, *parameters, **kind):
    cursor = connection.cursor(**kind)
    try:
        cursor.execute(sql, *parameters)
        rows = cursor.fetchall() if cursor.description else None
        names = [column[0:2] for column in cursor.description or []]
        return names, rows, cursor.rowcount, cursor.lastrowid
    finally:
        cursor.close()


def results(connection, sql):
    cursor = connection.cursor()
    found = []
    cursor.execute(sql)
    while True:
        found.append((cursor.rowcount, cursor.fetchall() if cursor.description else None))
        if not cursor.nextset():
            return found


# Logins.
attempt("wrong password", lambda: connect(password="wrong"))
attempt("no password", lambda: connect(password=""))
if driver != "connector-pure" or tls:
    # Which plugin a server feigns for nobody is its own business, and that one does not have all.
    attempt("unknown user", lambda: connect(user="nobody"))
attempt("unknown database", lambda: connect(database="no_such_database"))
setup = connect()
setup.autocommit(True) if driver == "pymysql" else setattr(setup, "autocommit", True)
run(setup, "DROP DATABASE IF EXISTS clients")
attempt("create", lambda: run(setup, "CREATE DATABASE clients CHARACTER SET utf8mb4")[1:])
setup.close()
connection = connect(database="clients")
attempt("database", lambda: run(connection, "SELECT DATABASE(), CURRENT_USER()"))
attempt("table", lambda: run(connection, """CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(50) UNIQUE, amount DECIMAL(10, 2), at DATETIME(3), data LONGBLOB, flag BIT(4),
    day DATE, how ENUM('a', 'b'), number DOUBLE, big BIGINT UNSIGNED, json JSON)"""))

# Values of all kinds, and what is told beside them.
row = ("größe \U0001f600", "12.50", "2024-02-29 12:34:56.789", b"\x00\xff'\\\"", 5, "2024-02-29",
       "b", 1.5, 2 ** 64 - 1, '{"a": [1, null]}')
INSERT = ("INSERT INTO t (name, amount, at, data, flag, day, how, number, big, json) VALUES "
          "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)")
attempt("insert", lambda: run(connection, INSERT, row))
attempt("insert again", lambda: run(connection, INSERT, row))
attempt("insert nulls", lambda: run(connection, INSERT, (None,) * 10))
connection.commit()
attempt("select", lambda: run(connection, "SELECT * FROM t ORDER BY id"))
attempt("update", lambda: run(connection, "UPDATE t SET number = 2 WHERE id = 1"))
attempt("update again", lambda: run(connection, "UPDATE t SET number = 2 WHERE id = 1"))
attempt("last id", lambda: run(connection, "SELECT LAST_INSERT_ID(), ROW_COUNT()"))
attempt("syntax", lambda: run(connection, "SELEC 1"))
attempt("no table", lambda: run(connection, "SELECT * FROM missing"))
attempt("no column", lambda: run(connection, "SELECT missing FROM t"))
attempt("warnings", lambda: (run(connection, "SELECT CAST('x' AS SIGNED)"),
                             run(connection, "SHOW WARNINGS")))
attempt("truncated", lambda: (run(connection, "INSERT IGNORE INTO t (name) VALUES (REPEAT('x', 60))"),
                              run(connection, "SHOW WARNINGS"), run(connection, "SHOW COUNT(*) WARNINGS")))

# Transactions.
connection.rollback()
attempt("count", lambda: run(connection, "SELECT COUNT(*) FROM t"))
attempt("begin", lambda: run(connection, "START TRANSACTION"))
attempt("change", lambda: run(connection, "DELETE FROM t"))
attempt("seen", lambda: run(connection, "SELECT COUNT(*) FROM t"))
attempt("rollback", lambda: connection.rollback())
attempt("unseen", lambda: run(connection, "SELECT COUNT(*) FROM t"))
attempt("savepoint", lambda: [run(connection, sql)[1:] for sql in (
    "BEGIN", "SAVEPOINT a", "DELETE FROM t", "ROLLBACK TO a", "SELECT COUNT(*) FROM t", "COMMIT")])
attempt("read only", lambda: [run(connection, sql)[1:] for sql in (
    "START TRANSACTION READ ONLY", "SELECT COUNT(*) FROM t", "COMMIT")])
attempt("read only write", lambda: [run(connection, sql)[1:] for sql in (
    "START TRANSACTION READ ONLY", "DELETE FROM t")])
connection.rollback()

# State.
attempt("names", lambda: (run(connection, "SET NAMES latin1"),
                          run(connection, "SELECT @@character_set_client, @@collation_connection")))
attempt("names", lambda: (run(connection, "SET NAMES utf8mb4"), run(connection, "SELECT 'ä', LENGTH('ä')")))
attempt("variables", lambda: [run(connection, sql)[1] for sql in (
    "SET @a = 1, @b = 'two'", "SELECT @a, @b", "SET time_zone = '+03:00'", "SELECT FROM_UNIXTIME(0)",
    "SELECT @@time_zone", "SET SESSION sql_mode = 'ANSI_QUOTES'", 'SELECT "id" FROM "t" ORDER BY "id"',
    "SET SESSION sql_mode = DEFAULT")])
attempt("temporary", lambda: [run(connection, sql)[1] for sql in (
    "CREATE TEMPORARY TABLE c (a INT)", "INSERT INTO c VALUES (1)", "SELECT * FROM c",
    "DROP TEMPORARY TABLE c")])
attempt("use", lambda: [run(connection, sql)[1] for sql in (
    "USE information_schema", "SELECT DATABASE()", "USE clients", "SELECT DATABASE()")])
attempt("use none", lambda: run(connection, "USE no_such_database"))

# Many of each.
attempt("multi", lambda: results(connection, "SELECT 1; INSERT INTO t (name) VALUES ('multi'); SELECT 2"))
attempt("multi error", lambda: results(connection, "SELECT 1; SELEC 2; SELECT 3"))
attempt("procedure", lambda: run(connection, "CREATE PROCEDURE p(IN a INT) BEGIN SELECT a; SELECT a + 1; END"))
attempt("call", lambda: results(connection, "CALL p(5)"))
attempt("many", lambda: connection.cursor().executemany("INSERT INTO t (name) VALUES (%s)",
                                                        [(f"row {i}",) for i in range(500)]))
attempt("rows", lambda: run(connection, "SELECT * FROM t a JOIN (SELECT 1 UNION SELECT 2) b ORDER BY a.id, 2"))
connection.commit()

# A file.
with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
    for index in range(3000):
        file.write(f"{index + 10000}\tfile {index}\n")
    file.flush()
    # The name is in no answer.
    attempt("file", lambda: run(connection, f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE t (id, name)"))
attempt("file rows", lambda: run(connection, "SELECT COUNT(*), SUM(id) FROM t WHERE id >= 10000 FOR UPDATE"))
connection.rollback()
if driver != "connector-pure":
    # That one leaves its connection in the middle of the protocol.
    attempt("no file", lambda: run(connection, "LOAD DATA LOCAL INFILE '/no/such/file' INTO TABLE t"))
    attempt("after no file", lambda: run(connection, "SELECT 1"))
connection.close()

# Long packets, over the 16 MiB of one.
connection = connect(database="clients")
long = "x" * (17 << 20)
attempt("long row", lambda: [(len(a), hash_of(a)) for (a,) in run(
    connection, "SELECT REPEAT('0123456789abcdef', 17 * 65536)")[1]])
attempt("long statement", lambda: run(connection, f"SELECT LENGTH('{long}')")[1])
attempt("exactly", lambda: run(connection, "SELECT 1 /*" + "y" * ((1 << 24) - 1 - 15) + "*/")[1:])
attempt("long insert", lambda: run(connection, "INSERT INTO t (name, data) VALUES ('long', %s)", (long,))[2:])
connection.commit()
attempt("long read", lambda: run(connection, "SELECT LENGTH(data), MD5(data) FROM t WHERE name = 'long'")[1])
attempt("long back", lambda: [len(a) for (a,) in run(connection, "SELECT data FROM t WHERE name = 'long'")[1]])
attempt("too long", lambda: run(connection, "SELECT LENGTH(REPEAT('x', 1 << 30))")[1:])

# What only the connector has.
if driver != "pymysql":
    def prepared():
        cursor = connection.cursor(prepared=True)
        found = []
        for name in ("row 1", "row 2", None, "größe \U0001f600"):
            cursor.execute("SELECT id, name, amount, at, data, flag, day, how, number, big FROM t "
                           "WHERE name = ?", (name,))
            found.append(cursor.fetchall())
        cursor.execute("INSERT INTO t (name, number, data) VALUES (?, ?, ?)", ("prepared", 2.5, b"\x00\x01"))
        found.append((cursor.rowcount, cursor.lastrowid))
        cursor.execute("SELECT name, number, data FROM t WHERE number = ?", (2.5,))
        found.append(cursor.fetchall())
        cursor.close()
        return found

    attempt("prepared", prepared)
    connection.commit()
    attempt("prepared again", lambda: run(connection, "SELECT name, data FROM t WHERE name = %s", ("prepared",), prepared=True))
    attempt("prepared error", lambda: run(connection, "SELECT missing FROM t WHERE id = %s", (1,), prepared=True))
    attempt("prepared long", lambda: run(connection, "SELECT LENGTH(%s)", (long,), prepared=True)[1])
    attempt("set", lambda: run(connection, "SET @a = 5"))
    attempt("reset", lambda: connection.cmd_reset_connection() and None)
    attempt("after reset", lambda: run(connection, "SELECT @a, DATABASE()")[1])
    attempt("change user", lambda: connection.cmd_change_user("other", "secret", "clients") and None)
    attempt("who", lambda: run(connection, "SELECT CURRENT_USER(), DATABASE()")[1])
    attempt("may not", lambda: run(connection, "DROP TABLE t"))
    attempt("change user back", lambda: connection.cmd_change_user("app", "app") and None)
    attempt("who", lambda: run(connection, "SELECT CURRENT_USER(), DATABASE()")[1])
    attempt("wrong user", lambda: connection.cmd_change_user("app", "wrong") and None)
    connection = connect(database="clients")
    attempt("no good database", lambda: connection.cmd_init_db("no_such_database"))
    attempt("database", lambda: (connection.cmd_init_db("information_schema"), run(connection, "SELECT DATABASE()")[1])[1])
    attempt("ping", lambda: connection.ping())
else:
    attempt("select database", lambda: (connection.select_db("information_schema"), run(connection, "SELECT DATABASE()")[1]))
    attempt("ping", lambda: connection.ping(reconnect=False))
    cursor = connection.cursor(module.cursors.SSCursor)
    cursor.execute("SELECT id, name FROM clients.t ORDER BY id")
    say("unbuffered", [cursor.fetchone() for _ in range(3)])
    cursor.close()
    attempt("after unbuffered", lambda: run(connection, "SELECT 1")[1])

connection.close()
