// What an application does by node's mysql2, with all that it is told, so that two runs can be
// compared: one at a server, one through the proxy.
//
// mysql2.js MODULES PORT TLS, where TLS is tls or plain.
'use strict';
const crypto = require('crypto');
const { Readable } = require('stream');
const [modules, port, tls] = process.argv.slice(2);
const mysql = require(modules + '/mysql2/promise');

// GTIDs, which a server tells if it is so configured, the proxy needs itself; the flag goes with them.
const plain = (key, value) => {
  if (key === 'stateChanges') return undefined;
  if (key === 'serverStatus') return value & ~0x4000;
  return typeof value === 'bigint' ? String(value) : value;
};
function say(...words) {
  const text = words.map((word) => JSON.stringify(word, plain)).join(' ');
  const sum = crypto.createHash('sha256').update(text).digest('hex');
  console.log(text.length < 500 ? text : `${text.slice(0, 200)}... ${text.length} ${sum}`);
}

async function attempt(name, work) {
  try {
    say(name, await work());
  } catch (error) {
    say(name, 'error', error.errno, error.sqlState, error.message);
  }
}

function connect(more = {}) {
  return mysql.createConnection({
    host: '127.0.0.1', port: Number(port), user: 'app', password: 'app',
    multipleStatements: true, supportBigNumbers: true, dateStrings: true,
    ...(tls === 'tls' ? { ssl: { rejectUnauthorized: false } } : {}), ...more,
  });
}

async function main() {
  await attempt('wrong password', () => connect({ password: 'wrong' }));
  await attempt('unknown user', () => connect({ user: 'nobody' }));
  await attempt('unknown database', () => connect({ database: 'no_such_database' }));
  let c = await connect();
  await c.query('DROP DATABASE IF EXISTS node');
  await c.query('CREATE DATABASE node');
  await c.end();
  c = await connect({ database: 'node' });
  const query = (sql, values) => attempt(sql.slice(0, 60), async () => {
    const [rows, fields] = await c.query(sql, values);
    return [rows, fields && fields.flat().map((field) => field && [field.name, field.columnType])];
  });
  const execute = (sql, values) => attempt(`prepared ${sql.slice(0, 60)}`, async () => (await c.execute(sql, values))[0]);
  await query('CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(60), b LONGBLOB, d DOUBLE, at DATETIME(6))');
  await query('INSERT INTO t (v, d, at) VALUES (?, ?, ?), (?, ?, ?)', ['ä\u{1f600}', 1.5, '2024-01-02 03:04:05.678', null, null, null]);
  await query('SELECT * FROM t ORDER BY id');
  await execute('SELECT * FROM t WHERE id >= ? ORDER BY id', [1]);
  await execute('SELECT * FROM t WHERE id >= ? ORDER BY id', [2]);
  await execute('SELECT * FROM t WHERE v = ?', ['ä\u{1f600}']);
  await execute('SELECT ?, ?, ?', [1, 'two', null]);
  await execute('INSERT INTO t (v, b) VALUES (?, ?)', ['prepared', Buffer.from([0, 1, 255])]);
  await execute('INSERT INTO t (id) VALUES (?)', [1]);
  await execute('SELECT missing FROM t WHERE id = ?', [1]);
  await execute('UPDATE t SET d = ? WHERE id = ?', [2.5, 1]);
  await query('SELECT LAST_INSERT_ID(), ROW_COUNT()');
  await c.beginTransaction();
  await execute('DELETE FROM t WHERE id > ?', [0]);
  await execute('SELECT COUNT(*) FROM t WHERE id > ?', [0]);
  await c.rollback();
  await execute('SELECT COUNT(*) FROM t WHERE id > ?', [0]);
  await query('SELECT 1; INSERT INTO t (v) VALUES (\'multi\'); SELECT 2');
  await query('SELECT 1; SELEC 2');
  await query('SELECT CAST(\'x\' AS SIGNED)');
  await query('SHOW WARNINGS');
  await query('SET @a = 7');
  await query('SELECT @a');
  await query('CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2, 3; END');
  await query('CALL p()');
  await execute('CALL p()');
  await attempt('file', async () => (await c.query({
    sql: 'LOAD DATA LOCAL INFILE \'x\' INTO TABLE t (id, v)',
    infileStreamFactory: () => Readable.from([Buffer.from('1000\tfile\n1001\tother\n')]),
  }))[0]);
  await query('SELECT id, v FROM t WHERE id >= 1000');
  await attempt('statement', async () => {
    const statement = await c.prepare('SELECT v FROM t WHERE id = ?');
    const found = [];
    for (const id of [1, 1000, 1001, 5]) found.push((await statement.execute([id]))[0]);
    await statement.close();
    return found;
  });
  await attempt('long', async () => {
    const long = 'z'.repeat(17 << 20);
    const [rows] = await c.execute('SELECT LENGTH(?) AS a, ? AS b', [long, long]);
    return [rows[0].a, rows[0].b.length];
  });
  await attempt('long text', async () => (await c.query(`SELECT LENGTH('${'z'.repeat(17 << 20)}') AS a`))[0]);
  await attempt('pipelined', async () => (await Promise.all([1, 2, 3, 4, 5, 6].map((number) => (number % 2
    ? c.query('SELECT ? AS a, COUNT(*) AS n FROM t', [number])
    : c.execute('INSERT INTO t (v) VALUES (?)', [`many ${number}`]))))).map(([rows]) => rows));
  await attempt('change user', async () => { await c.changeUser({ user: 'other', password: 'secret', database: 'node' }); return 'done'; });
  await query('SELECT CURRENT_USER(), DATABASE(), @a');
  await query('DROP TABLE t');
  await attempt('change user', async () => { await c.changeUser({ user: 'app', password: 'app' }); return 'done'; });
  await query('SELECT CURRENT_USER(), DATABASE()');
  await attempt('reset', async () => { if (c.reset) await c.reset(); return 'done'; });
  await attempt('ping', () => c.ping());
  await attempt('streamed', () => new Promise((resolve, reject) => {
    let count = 0;
    c.connection.query('SELECT a.id FROM node.t a, node.t b, node.t c').stream()
      .on('data', () => { count += 1; }).on('end', () => resolve(count)).on('error', reject);
  }));
  await c.end();
}
main().catch((error) => { console.log(error); process.exit(1); });
