//! The pages that people read: links lead somewhere, and configs in them are good.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use lb_userspace::config;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README, the page about architecture, and all below `docs`.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("lb-userspace/docs")).unwrap();
    let mut pages: Vec<PathBuf> = docs
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|own| own == "md"))
        .collect();
    pages.extend(["README.md", "ARCHITECTURE.md"].map(|name| root().join(name)));
    pages
}

/// A line outside of blocks, or what a block of a language holds.
enum Part {
    Line(String),
    Block { language: String, text: String },
}

/// The parts of a page. Blocks within lists are set in.
fn parts(text: &str) -> Vec<Part> {
    let (mut parts, mut open) = (Vec::new(), None);
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        open = match (open, fence) {
            (None, Some(language)) => Some((language.to_owned(), String::new())),
            (Some((language, text)), Some(_)) => {
                parts.push(Part::Block { language, text });
                None
            }
            (Some((language, text)), None) => Some((language, text + line + "\n")),
            (None, None) => {
                parts.push(Part::Line(line.to_owned()));
                None
            }
        };
    }
    assert!(open.is_none(), "a block that never ends");
    parts
}

/// What links of a line lead to.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let (target, _) = rest.split_once(')')?;
        (!target.contains("://")).then_some(target)
    })
}

/// The names of a page's headings, as links have them.
fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let headings = parts(&text).into_iter().filter_map(|part| match part {
        Part::Line(line) if line.starts_with('#') => Some(line),
        Part::Line(_) | Part::Block { .. } => None,
    });
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.replace(' ', "-");
            kept.chars()
                .filter(|sign| sign.is_alphanumeric() || "-_".contains(*sign))
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for part in parts(&text) {
            let Part::Line(line) = part else { continue };
            for target in targets(&line) {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let to = match file {
                    "" => page.clone(),
                    _ => page.parent().unwrap().join(file),
                };
                assert!(to.exists(), "{}: {target}", page.display());
                let known = anchor.is_empty() || anchors(&to).iter().any(|own| own == anchor);
                assert!(known, "{}: {target}", page.display());
                count += 1;
            }
        }
    }
    assert!(count >= 50, "only {count} links found");
}

/// Configs that stand in the pages as a whole: fragments lack what steers or what routes.
#[test]
fn whole_configs_are_good() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for part in parts(&text) {
            let Part::Block { language, text } = part else {
                continue;
            };
            let has = |start: &str| text.lines().any(|line| line.starts_with(start));
            let is_whole = has("[agent]") && has("[[service]]") || has("[[mysql.server]]");
            if language == "toml" && is_whole {
                let problems = config::parse(text.as_bytes()).err();
                assert!(problems.is_none(), "{}: {problems:?}", page.display());
                count += 1;
            }
        }
    }
    assert!(count >= 4, "only {count} configs found");
}
