//! `docs/config.md`, from the list of keys.

use std::fmt::Write as _;

use super::{
    raw,
    schema::{Table as _, TableDoc},
};

/// A config with every table, as the reference shows it.
const EXAMPLE: &str = r#"[agent]
interfaces = ["eth0"]

[[service]]
name = "web"
address = "203.0.113.10"
port = 80

[service.health_check]
kind = "http"
path = "/healthz"

[[service.backend]]
name = "web1"
address = "10.0.0.11"
port = 8080

[[service.backend]]
name = "web2"
address = "10.0.0.12"
port = 8080
weight = 2

[[service.backend]]
name = "spare"
address = "10.0.0.13"
port = 8080
role = "backup"
"#;

/// The reference of the config file, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = format!(
        "# The config file\n\n\
         <!-- Made by `lb gen-docs` from lb-userspace/src/config/raw.rs. Do not edit. -->\n\n\
         TOML. `lb check --config FILE` reports every problem of a file at once, with its line; a \
         key that is not listed here is refused. `lb check --config FILE --explain` prints the \
         effective config, with every default written out and marked.\n\n\
         Files in the folder `FILE.d` whose names end with `.toml` are read with it, in the order \
         of their names, as if all were one: services may stand in any of them, any other table \
         in one.\n\n\
         Editors complete and check the file by [lb.schema.json](lb.schema.json), made from the \
         same list: with Taplo (Even Better TOML) write\n\n\
         ```toml\n#:schema /usr/share/doc/lb/lb.schema.json\n```\n\n\
         on the first line, or where else the schema is. It judges one value at a time; \
         what does not go together, `lb check` says.\n\n```toml\n{EXAMPLE}```\n"
    );
    for table in raw::File::doc().tables {
        section(&mut page, &table);
    }
    page
}

fn section(page: &mut String, table: &TableDoc) {
    let TableDoc {
        header,
        doc,
        keys,
        tables,
    } = table;
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## `{header}`\n\n{}\n\n", paragraph(doc));
    page.push_str("| key | takes | default | |\n|---|---|---|---|\n");
    for key in keys {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            key.name,
            key.allowed,
            key.default,
            paragraph(key.doc)
        );
    }
    for table in tables {
        section(page, table);
    }
}

/// Lines of a doc comment as one.
fn paragraph(doc: &str) -> String {
    doc.lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn the_example_is_valid() {
        let loaded = parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(loaded.warnings, []);
        assert_eq!(loaded.model.services[0].backends.len(), 3);
    }

    #[test]
    fn every_key_has_a_line_that_says_what_it_is() {
        let page = reference();
        for line in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 4, "{line}");
            assert!(
                cells
                    .iter()
                    .all(|cell| cell.len() > 2 || *cell == "`0`" || *cell == "`1`"),
                "{line}"
            );
            assert!(line.ends_with(". |"), "{line}");
        }
        for key in ["interfaces", "half_open_flows", "expect_status", "role"] {
            assert!(page.contains(&format!("| `{key}` |")), "{key}");
        }
    }
}
