//! Config files as files: examples, good ones, bad ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod import;
mod schema;

use std::{
    fs,
    path::{Path, PathBuf},
};

use lb_userspace::config::{self, Problem, Problems};

/// Every file of a folder of this crate with that ending, in the order of their names.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|own| own == ending))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

/// The examples of the docs, and what else is valid.
fn good() -> Vec<PathBuf> {
    [
        files("docs/examples", "toml"),
        files("tests/good-configs", "toml"),
    ]
    .concat()
}

fn messages(list: Vec<Problem>) -> Vec<String> {
    list.into_iter().map(|problem| problem.message).collect()
}

/// As `lb` shows them, for a file `lb.toml`.
fn shown(list: Vec<Problem>) -> String {
    let file = "lb.toml".to_owned();
    Problems { file, list }.to_string()
}

#[test]
fn good_files_are_good() {
    for file in good() {
        let loaded = config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(shown(loaded.warnings), "", "{}", file.display());
    }
}

#[test]
fn what_is_explained_means_the_same_and_is_explained_as_itself() {
    for file in good() {
        let bytes = fs::read(&file).unwrap();
        let loaded = config::parse(&bytes).unwrap();
        let explained = config::explain(&bytes).unwrap();
        let again = config::parse(explained.as_bytes())
            .unwrap_or_else(|list| panic!("{}\n{explained}", shown(list)));
        assert_eq!(again.model, loaded.model, "{explained}");
        assert_eq!(
            messages(again.warnings),
            messages(loaded.warnings),
            "{explained}"
        );
        assert_eq!(config::explain(explained.as_bytes()).unwrap(), explained);
    }
}

#[test]
fn the_schema_takes_good_files_and_what_is_explained() {
    let schema = schema::of_the_docs();
    for file in good() {
        let text = fs::read_to_string(&file).unwrap();
        let explained = config::explain(text.as_bytes()).unwrap();
        for text in [text, explained] {
            let document = config::as_json(&text).unwrap();
            assert_eq!(
                schema::faults(&schema, &document),
                [""; 0],
                "{}",
                file.display()
            );
        }
    }
}

/// How much a JSON schema sees of the bad files in a folder.
#[derive(Clone, Copy)]
enum Seen {
    /// Not TOML.
    Nothing,
    /// At least one fault of each.
    Fault,
    /// None: it takes more than one value to judge, or more than a pattern.
    Fine,
}

/// Bad files, by what is wrong with them. Beside each NAME.toml, NAME.txt has all that is said.
const BAD: [(&str, Seen); 3] = [
    ("tests/bad-configs/syntax", Seen::Nothing),
    ("tests/bad-configs/shape", Seen::Fault),
    ("tests/bad-configs/sense", Seen::Fine),
];

/// With LB_BLESS in the environment the texts are written anew, to be read before they are kept.
#[test]
fn bad_files_get_the_messages_beside_them() {
    let is_blessing = std::env::var_os("LB_BLESS").is_some();
    let mut differing = String::new();
    let mut count = 0;
    for (folder, _) in BAD {
        for file in files(folder, "toml") {
            let said = match config::parse(&fs::read(&file).unwrap()) {
                Err(list) => shown(list) + "\n",
                Ok(_) => "nothing\n".to_owned(),
            };
            let expected = file.with_extension("txt");
            if is_blessing {
                fs::write(&expected, &said).unwrap();
            }
            let expected = fs::read_to_string(&expected).unwrap_or_default();
            if said != expected || said == "nothing\n" {
                differing += &format!(
                    "--- {}\nexpected:\n{expected}found:\n{said}",
                    file.display()
                );
            }
            count += 1;
        }
        let texts = files(folder, "txt").len();
        assert_eq!(
            texts,
            files(folder, "toml").len(),
            "{folder}: texts without a file"
        );
    }
    assert!(
        differing.is_empty(),
        "{differing}(a key that is new is in many of them: run this test with LB_BLESS=1, and read \
         what changed)"
    );
    assert!(count >= 100, "{count}");
}

#[test]
fn the_schema_sees_what_one_value_can_be_judged_by() {
    let schema = schema::of_the_docs();
    for (folder, seen) in BAD {
        for file in files(folder, "toml") {
            let bytes = fs::read(&file).unwrap();
            let document = std::str::from_utf8(&bytes).ok().and_then(config::as_json);
            let faults = document.map(|document| schema::faults(&schema, &document));
            let fits = match (seen, &faults) {
                (Seen::Nothing, faults) => faults.is_none(),
                (Seen::Fault, faults) => faults.as_ref().is_some_and(|faults| !faults.is_empty()),
                (Seen::Fine, faults) => faults.as_ref().is_some_and(Vec::is_empty),
            };
            assert!(fits, "{}: {faults:?}", file.display());
        }
    }
}
