<?php
// What an application does by PHP's mysqli and PDO, with all that it is told, so that two runs can
// be compared: one at a server, one through the proxy.
//
// mysqlnd.php PORT TLS, where TLS is tls or plain.
[, $port, $tls] = $argv;
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

function say(...$words) {
    $text = json_encode($words, JSON_PARTIAL_OUTPUT_ON_ERROR | JSON_UNESCAPED_UNICODE);
    echo strlen($text) < 500 ? $text : substr($text, 0, 200) . '... ' . strlen($text) . ' ' . md5($text), "\n";
}
function attempt($name, $work) {
    try {
        say($name, $work());
    } catch (mysqli_sql_exception $error) {
        say($name, 'error', $error->getCode(), $error->getSqlState(), $error->getMessage());
    } catch (PDOException $error) {
        say($name, 'error', $error->errorInfo, $error->getMessage());
    }
}
function connect($password = 'app', $database = null, $user = 'app') {
    global $port, $tls;
    $c = mysqli_init();
    $c->options(MYSQLI_OPT_LOCAL_INFILE, 1);
    $c->options(MYSQLI_OPT_SSL_VERIFY_SERVER_CERT, false);
    $flags = $tls === 'tls' ? MYSQLI_CLIENT_SSL | MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT : 0;
    $c->real_connect('127.0.0.1', $user, $password, $database, (int) $port, null, $flags);
    return $c;
}

attempt('wrong password', fn() => connect('wrong'));
attempt('unknown user', fn() => connect('app', null, 'nobody'));
attempt('unknown database', fn() => connect('app', 'no_such_database'));
$c = connect();
$c->query('DROP DATABASE IF EXISTS php');
$c->query('CREATE DATABASE php');
$c->close();
$c = connect('app', 'php');
$c->set_charset('utf8mb4');
$run = function ($sql) use (&$c) {
    attempt(substr($sql, 0, 60), function () use (&$c, $sql) {
        $found = $c->query($sql);
        $rows = $found instanceof mysqli_result ? $found->fetch_all() : $found;
        return [$rows, $c->affected_rows, $c->insert_id, $c->warning_count, $c->info];
    });
};
$run('CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(60), b LONGBLOB, d DOUBLE)');
$run("INSERT INTO t (v, d) VALUES ('ä', 1.5), (NULL, NULL)");
$run("INSERT INTO t (id) VALUES (1)");
$run('SELECT * FROM t ORDER BY id');
$run("UPDATE t SET d = 2 WHERE id = 1");
$run("UPDATE t SET d = 2 WHERE id = 1");
$run("SELECT CAST('x' AS SIGNED)");
$run('SHOW WARNINGS');
$run('SELEC 1');
attempt('prepared', function () use (&$c) {
    $found = [];
    $statement = $c->prepare('SELECT id, v, d FROM t WHERE id >= ? ORDER BY id');
    foreach ([1, 2, 3] as $id) {
        $statement->bind_param('i', $id);
        $statement->execute();
        $found[] = $statement->get_result()->fetch_all();
    }
    $statement->close();
    $statement = $c->prepare('INSERT INTO t (v, b) VALUES (?, ?)');
    $name = 'long data'; $null = null;
    $statement->bind_param('sb', $name, $null);
    $statement->send_long_data(1, str_repeat('x', 1000));
    $statement->send_long_data(1, str_repeat('y', 1000));
    $statement->execute();
    $found[] = [$statement->affected_rows, $statement->insert_id];
    $statement->reset();
    return $found;
});
$run("SELECT LENGTH(b), MD5(b) FROM t WHERE v = 'long data'");
attempt('cursor', function () use (&$c) {
    $statement = $c->prepare('SELECT id FROM t ORDER BY id');
    $statement->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
    $statement->execute();
    $statement->bind_result($id);
    $found = [];
    while ($statement->fetch()) {
        $found[] = $id;
    }
    return $found;
});
attempt('transaction', function () use (&$c) {
    $c->begin_transaction();
    $c->query('DELETE FROM t');
    $inside = $c->query('SELECT COUNT(*) FROM t')->fetch_all();
    $c->rollback();
    $c->autocommit(false);
    $c->query('DELETE FROM t');
    $c->rollback();
    $c->autocommit(true);
    return [$inside, $c->query('SELECT COUNT(*) FROM t')->fetch_all()];
});
attempt('multi', function () use (&$c) {
    $found = [];
    $c->multi_query("SELECT 1; INSERT INTO t (v) VALUES ('multi'); SELECT 2");
    do {
        $result = $c->store_result();
        $found[] = $result ? $result->fetch_all() : $c->affected_rows;
    } while ($c->more_results() && $c->next_result());
    return $found;
});
$file = tempnam('/tmp', 'lb');
file_put_contents($file, "500\tfile\n501\tother\n");
attempt('file', fn() => $c->query("LOAD DATA LOCAL INFILE '$file' INTO TABLE t (id, v)"));
unlink($file);
$run('SELECT id, v FROM t WHERE id >= 500');
attempt('long', fn() => strlen($c->query("SELECT REPEAT('x', 17 << 20)")->fetch_row()[0]));
attempt('long text', fn() => $c->query("SELECT LENGTH('" . str_repeat('y', 17 << 20) . "')")->fetch_row());
attempt('unbuffered', function () use (&$c) {
    $result = $c->query('SELECT a.id FROM t a, t b ORDER BY a.id', MYSQLI_USE_RESULT);
    $first = $result->fetch_row();
    $result->free();
    return $first;
});
attempt('change user', fn() => $c->change_user('other', 'secret', 'php'));
$run('SELECT CURRENT_USER(), DATABASE()');
attempt('change user back', fn() => $c->change_user('app', 'app', 'php'));
attempt('database', fn() => [$c->select_db('information_schema'), $c->query('SELECT DATABASE()')->fetch_row()]);
attempt('no database', fn() => $c->select_db('no_such_database'));
$run('SELECT DATABASE()');
attempt('ping', fn() => $c->ping());
attempt('stat', fn() => strlen($c->stat()) > 10);
attempt('charset', fn() => [$c->set_charset('latin1'), $c->query('SELECT @@character_set_client')->fetch_row()]);
$c->close();

foreach ([true, false] as $emulated) {
    attempt('pdo', function () use ($emulated, $port) {
        $pdo = new PDO("mysql:host=127.0.0.1;port=$port;dbname=php;charset=utf8mb4", 'app', 'app', [
            PDO::ATTR_EMULATE_PREPARES => $emulated,
            PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        ]);
        $found = [];
        $statement = $pdo->prepare('SELECT id, v FROM t WHERE id > ? ORDER BY id LIMIT 3');
        foreach ([0, 2] as $id) {
            $statement->execute([$id]);
            $found[] = $statement->fetchAll(PDO::FETCH_ASSOC);
        }
        $pdo->beginTransaction();
        $pdo->prepare('INSERT INTO t (v) VALUES (:v)')->execute(['v' => 'pdo']);
        $found[] = $pdo->lastInsertId();
        $found[] = $pdo->query('SELECT COUNT(*) FROM t')->fetchColumn();
        $pdo->rollBack();
        $found[] = $pdo->query("SELECT COUNT(*) FROM t WHERE v = 'pdo'")->fetchColumn();
        try {
            $pdo->prepare('SELECT missing FROM t WHERE id = ?')->execute([1]);
        } catch (PDOException $error) {
            $found[] = $error->errorInfo;
        }
        return $found;
    });
}
