//! `lb import`: realistic files of others, and what becomes of them.

use std::{fs, path::Path};

use lb_userspace::{
    config::{self, Problem},
    import::{From, import},
};
use proptest::prelude::*;

/// Their files; beside each is what is made of it.
const FILES: [(&str, From); 5] = [
    ("haproxy-shop.cfg", From::Haproxy),
    ("haproxy-tcp.cfg", From::Haproxy),
    ("haproxy-checks.cfg", From::Haproxy),
    ("keepalived-lvs.conf", From::Keepalived),
    ("keepalived-checks.conf", From::Keepalived),
];

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Problems beside those of values that are to be filled in.
fn others(toml: &str) -> Vec<Problem> {
    let lines: Vec<&str> = toml.lines().collect();
    let list = config::parse(toml.as_bytes()).err().unwrap_or_default();
    list.into_iter()
        .filter(|problem| !lines[problem.line - 1].contains("FILL-IN"))
        .collect()
}

#[test]
fn realistic_files_become_what_stands_beside_them() {
    for (name, from) in FILES {
        let made = import(from, name, &read(name));
        let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/imports")
            .join(name)
            .with_extension("toml");
        if std::env::var_os("LB_BLESS").is_some() {
            fs::write(&golden, &made.toml).unwrap();
        }
        assert_eq!(made.toml, fs::read_to_string(golden).unwrap(), "{name}");
        assert_eq!(others(&made.toml), [], "{name}");
        for note in &made.notes {
            let comment = format!("# line {}: {}\n", note.line, note.text);
            assert!(made.toml.contains(&comment), "{comment}");
        }
    }
}

#[test]
fn a_file_that_says_everything_passes() {
    let text = "defaults\n  mode tcp\nlisten web\n  bind 203.0.113.10:80\n  \
                server a 10.0.0.11:8080 check inter 500ms\n  server b 10.0.0.12:8080 check inter 500ms\n";
    let made = import(From::Haproxy, "haproxy.cfg", text);
    let loaded = config::parse(made.toml.as_bytes()).unwrap();
    assert_eq!(loaded.warnings, []);
    let service = &loaded.model.services[0];
    assert_eq!((service.name.as_str(), service.backends.len()), ("web", 2));
    assert_eq!(service.health_check.interval.as_millis(), 500);
    assert_eq!(made.notes.len(), 1, "{:?}", made.notes);
}

#[test]
fn nothing_at_all_is_a_config_without_services() {
    for from in [From::Haproxy, From::Keepalived] {
        let made = import(from, "a", "");
        assert!(config::parse(made.toml.as_bytes()).is_ok(), "{}", made.toml);
        assert_eq!(made.notes, []);
    }
}

/// Says whether it is TOML at all.
fn is_toml(made: &str) -> bool {
    let list = config::parse(made.as_bytes()).err().unwrap_or_default();
    !list.iter().any(|problem| {
        problem.message.contains("not TOML") || problem.message.contains("unknown key")
    })
}

proptest! {
    #[test]
    fn arbitrary_text_gives_toml(text in "\\PC{0,200}", lines in proptest::collection::vec("[ -~]{0,40}", 0..20)) {
        for from in [From::Haproxy, From::Keepalived] {
            let made = import(from, &text, &lines.join("\n"));
            prop_assert!(is_toml(&made.toml), "{}", made.toml);
            let made = import(from, "a\nb", &text);
            prop_assert!(is_toml(&made.toml), "{}", made.toml);
        }
    }

    #[test]
    fn mangled_files_give_toml(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_usize), 1..30)
    ) {
        for (name, from) in FILES {
            let mut words: Vec<String> = read(name).split_inclusive([' ', '\n']).map(str::to_owned).collect();
            for (place, edit) in &edits {
                let at = place.index(words.len());
                match edit {
                    0 => drop(words.remove(at)),
                    1 => words[at] = "{ ".to_owned(),
                    2 => words[at] = "}\n".to_owned(),
                    3 => words[at] = "\"".to_owned(),
                    4 => words[at] = "99999999999999999999 ".to_owned(),
                    5 => words[at] = "-1 ".to_owned(),
                    6 => words.insert(at, "\u{e9}\\ \u{7}".to_owned()),
                    _ => words.swap(at, 0),
                }
            }
            let made = import(from, name, &words.concat());
            prop_assert!(is_toml(&made.toml), "{}", made.toml);
        }
    }
}
