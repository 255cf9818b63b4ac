//! Config files as files: examples, good ones, bad ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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
