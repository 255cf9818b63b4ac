<?php
// The application of www.foobar.com: registers users and lists them. All of it goes through lb's
// proxy on this host, which sends writes to the primary and reads to a replica.

const DATABASE = 'mysql:host=127.0.0.1;port=3306;dbname=foobar;charset=utf8mb4';

function database(): PDO
{
    return new PDO(DATABASE, 'foobar', 'foobar', [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_TIMEOUT => 12,
        PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
    ]);
}

function answer(int $status, array $value): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode(['app' => $_SERVER['APP_HOST']] + $value), "\n";
}

/** The newest users, and the number of the server that told them. */
function users(PDO $database): array
{
    $statement = $database->query(
        'SELECT @@server_id AS server, COUNT(*) AS count FROM users');
    $about = $statement->fetch();
    $newest = $database->query('SELECT id, name, email FROM users ORDER BY id DESC LIMIT 20');
    return ['server' => (int)$about['server'], 'count' => (int)$about['count'],
        'users' => $newest->fetchAll()];
}

function register(PDO $database): array
{
    $json = str_starts_with($_SERVER['CONTENT_TYPE'] ?? '', 'application/json');
    $form = $json ? json_decode(file_get_contents('php://input'), true) : $_POST;
    $name = trim((string)($form['name'] ?? ''));
    $email = trim((string)($form['email'] ?? ''));
    if ($name === '' || strlen($name) > 100 || !filter_var($email, FILTER_VALIDATE_EMAIL)) {
        return [400, ['error' => 'a name and an e-mail address are wanted']];
    }
    $statement = $database->prepare('INSERT INTO users (name, email) VALUES (?, ?)');
    $statement->execute([$name, $email]);
    return [201, ['id' => (int)$database->lastInsertId(), 'json' => $json]];
}

function page(): void
{
    $host = htmlspecialchars($_SERVER['APP_HOST']);
    $rows = '';
    try {
        $list = users(database());
        $about = "{$list['count']} users, told by database server {$list['server']}";
        foreach ($list['users'] as $user) {
            $fields = array_map(fn($field) => htmlspecialchars((string)$field), $user);
            $rows .= "<tr><td>{$fields['id']}<td>{$fields['name']}<td>{$fields['email']}";
        }
    } catch (PDOException $error) {
        error_log($error->getMessage());
        $about = 'the database does not answer';
    }
    echo <<<HTML
        <!doctype html><meta charset="utf-8"><title>foobar</title>
        <h1>www.foobar.com</h1><p>This page was made by $host; $about.
        <form method="post" action="/users"><input name="name" placeholder="name">
        <input name="email" placeholder="e-mail"><button>register</button></form>
        <table>$rows</table>

        HTML;
}

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$route = $_SERVER['REQUEST_METHOD'] . ' ' . $path;
try {
    switch ($route) {
        case 'GET /':
        case 'HEAD /':
            page();
            break;
        case 'GET /healthz':
            // Not about the database: with it, both hosts would go at once.
            header('Content-Type: text/plain');
            echo "ok\n";
            break;
        case 'GET /users':
            answer(200, users(database()));
            break;
        case 'POST /users':
            [$status, $value] = register(database());
            if ($status === 201 && !$value['json']) {
                header('Location: /', true, 303);
                break;
            }
            answer($status, $value);
            break;
        default:
            answer(404, ['error' => 'there is no such page']);
    }
} catch (PDOException $error) {
    error_log($error->getMessage());
    answer(503, ['error' => $error->getMessage()]);
}
