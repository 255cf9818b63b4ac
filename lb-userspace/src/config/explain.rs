//! `lb check --explain`: the effective config, every default written out, as a config file.
//!
//! A default that would only earn a warning or a refusal when written out, because another key
//! makes it meaningless, stands there as a comment. Which ones these are is not said twice: what is
//! written is checked as any file, and what it complains about becomes a comment.

use std::{collections::HashSet, fmt::Write as _};

use lb_common::abi::Protocol;
use toml::de::DeTable;

use super::{
    model::{self, Model},
    parse, raw,
    schema::{Key, Rule, Shown, Table, Visitor},
    validate,
};

/// Rounds of writing and checking. The second finds what the first made appear; there is no third
/// that we know of.
const ROUNDS: usize = 4;

/// The effective config of a file, as TOML that means the same.
pub(super) fn of_table(table: &DeTable<'_>, model: &Model) -> String {
    let mut hushed = HashSet::new();
    let mut written = String::new();
    for _ in 0..ROUNDS {
        written = write(table, model, &hushed);
        let found = complaints(&written);
        let before = hushed.len();
        hushed.extend(found);
        if hushed.len() == before {
            break;
        }
    }
    written
}

/// The keys that checking complains about.
fn complaints(text: &str) -> Vec<String> {
    let list = match parse(text.as_bytes()) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    list.into_iter().map(|problem| problem.path).collect()
}

fn write(table: &DeTable<'_>, model: &Model, hushed: &HashSet<String>) -> String {
    let mut writer = Writer {
        given: Some(table),
        model,
        hushed,
        path: String::new(),
        header: "",
        service: None,
        text: "# The effective config: what the file says, and every default.\n".to_owned(),
    };
    raw::File::visit(&mut writer);
    writer.text
}

struct Writer<'a, 'i> {
    /// The table of the file, if it has one there.
    given: Option<&'a DeTable<'i>>,
    model: &'a Model,
    /// Paths of keys that are not to be written out where the file does not.
    hushed: &'a HashSet<String>,
    path: String,
    header: &'static str,
    service: Option<&'a model::Service>,
    text: String,
}

impl<'a, 'i> Writer<'a, 'i> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn line(&mut self, line: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// Goes into a table, and comes back.
    fn within<T: Table>(
        &mut self,
        path: String,
        given: Option<&'a DeTable<'i>>,
        service: Option<&'a model::Service>,
    ) {
        let outer = (self.given, self.header, self.service);
        let outer_path = std::mem::replace(&mut self.path, path);
        self.given = given;
        self.header = T::HEADER;
        self.service = service;
        self.line(format_args!("\n{}", T::HEADER));
        T::visit(self);
        (self.given, self.header, self.service) = outer;
        self.path = outer_path;
    }

    /// What holds where the file does not name a key whose default depends on others, if that is
    /// one value.
    fn derived(&self, name: &str) -> Option<String> {
        let service = self.service?;
        let default = match (self.header, name) {
            ("[[service]]", "idle_timeout_seconds") => {
                format!("{:?}", validate::default_idle_timeout(service.protocol))
            }
            ("[[service.backend]]", "port") => service.port.to_string(),
            ("[service.health_check]", "kind") => match service.protocol {
                Protocol::Tcp => "\"tcp\"".to_owned(),
                Protocol::Udp => "\"none\"".to_owned(),
            },
            _ => return None,
        };
        Some(default)
    }
}

/// Whether a table has keys that it cannot be without, so that none is no table of defaults.
struct Needs(bool);

impl Needs {
    fn of<T: Table>() -> bool {
        let mut needs = Self(false);
        T::visit(&mut needs);
        needs.0
    }
}

impl Visitor for Needs {
    fn key<R: Rule>(&mut self, _: &'static str, key: &Key<R>, _: &'static str) {
        self.0 |= key.is_required();
    }

    fn table<T: Table>(&mut self, _: &'static str) {}

    fn tables<T: Table>(&mut self, _: &'static str) {}
}

impl Visitor for Writer<'_, '_> {
    fn key<R: Rule>(&mut self, name: &'static str, key: &Key<R>, _: &'static str) {
        let given = self.given.and_then(|table| table.get(name));
        let path = self.path_of(name);
        let is_hushed = given.is_none() && self.hushed.contains(&path);
        match key.shown(given) {
            Shown::Default(value) if is_hushed => {
                self.line(format_args!(
                    "# {name} = {value} # default, has no effect here"
                ));
            }
            Shown::Default(value) => self.line(format_args!("{name} = {value} # default")),
            Shown::Set(value) => {
                let is_default = self.derived(name).as_ref() == Some(&value);
                let mark = if is_default { " # default" } else { "" };
                self.line(format_args!("{name} = {value}{mark}"));
            }
            Shown::Derived(words) => match self.derived(name).filter(|_| !is_hushed) {
                Some(value) => self.line(format_args!("{name} = {value} # default")),
                None => {
                    let words = words.replace('`', "");
                    self.line(format_args!("# {name} (default: {words})"));
                }
            },
            // The file is valid: it is not needed.
            Shown::Missing => {}
        }
    }

    fn table<T: Table>(&mut self, name: &'static str) {
        let given = self
            .given
            .and_then(|table| table.get(name))
            .and_then(|value| value.get_ref().as_table());
        let path = self.path_of(name);
        if given.is_none() && Needs::of::<T>() {
            self.line(format_args!("\n# no {}", T::HEADER));
            return;
        }
        self.within::<T>(path, given, self.service);
    }

    fn tables<T: Table>(&mut self, name: &'static str) {
        let given = self
            .given
            .and_then(|table| table.get(name))
            .and_then(|value| value.get_ref().as_array());
        let elements = given.map_or(&[][..], |list| &list[..]);
        for (index, element) in elements.iter().enumerate() {
            let table = element.get_ref().as_table();
            let service = if T::HEADER == "[[service]]" {
                self.model.services.get(index)
            } else {
                self.service
            };
            let path = format!("{}[{index}]", self.path_of(name));
            self.within::<T>(path, table, service);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Problem, explain, parse};

    const SERVICE: &str = "[agent]\ninterfaces = [\"eth0\"]\n\n[[service]]\nname = \"web\"\n\
                           address = \"203.0.113.10\"\nport = 80\n";
    const BACKEND: &str = "[[service.backend]]\nname = \"b\"\naddress = \"10.0.0.11\"\n";

    fn explained(text: &str) -> String {
        let before = parse(text.as_bytes()).unwrap();
        let explained = explain(text.as_bytes()).unwrap();
        let after = parse(explained.as_bytes())
            .unwrap_or_else(|problems| panic!("{problems:?}\n{explained}"));
        assert_eq!(after.model, before.model, "{explained}");
        let said = |list: Vec<Problem>| -> Vec<String> {
            list.into_iter().map(|problem| problem.message).collect()
        };
        assert_eq!(said(after.warnings), said(before.warnings), "{explained}");
        assert_eq!(explain(explained.as_bytes()).unwrap(), explained);
        explained
    }

    #[track_caller]
    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|one| one == line), "no {line} in\n{text}");
    }

    #[test]
    fn defaults_are_written_out_and_marked() {
        let text = explained(&format!(
            "{SERVICE}scheduler = \"maglev\"\n{BACKEND}weight = 1\n"
        ));
        for line in [
            "interfaces = [\"eth0\"]",
            "xdp_mode = \"auto\" # default",
            "socket = \"/run/lb/lb.sock\" # default",
            "port = 80",
            "scheduler = \"maglev\"",
            "idle_timeout_seconds = 900.0 # default",
            "# tunnel_source (default: \"172.16.0.0/16\", for IPv6 backends \"100::/64\")",
            "kind = \"tcp\" # default",
            "# path = \"/\" # default, has no effect here",
            "# port (default: the backend's)",
            "port = 80 # default",
            "weight = 1 # default",
            "# no [app_host]",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn what_depends_on_others_is_what_holds() {
        let udp = explained(&format!(
            "{SERVICE}protocol = \"udp\"\nidle_timeout_seconds = 900\n{BACKEND}port = 81\n"
        ));
        has(&udp, "kind = \"none\" # default");
        has(&udp, "idle_timeout_seconds = 900.0");
        has(&udp, "port = 81");
        let http = explained(&format!(
            "{SERVICE}[service.health_check]\nkind = \"http\"\nport = 81\n{BACKEND}port = 80\n"
        ));
        has(&http, "path = \"/\" # default");
        has(&http, "port = 81");
        has(&http, "port = 80 # default");
    }

    #[test]
    fn what_the_file_says_in_vain_stays_and_is_warned_of() {
        let text = format!("{SERVICE}{BACKEND}[service.health_check]\npath = \"/x\"\n");
        has(&explained(&text), "path = \"/x\"");
    }

    #[test]
    fn an_app_host_is_one_only_where_the_file_says_so() {
        let text = explained("[app_host]\ninterfaces = [\"eth0\"]\nvips = [\"203.0.113.10\"]\n");
        has(&text, "decap = [] # default");
        let none = explained("");
        assert!(!none.contains("\n[app_host]"), "{none}");
    }

    #[test]
    fn odd_texts_are_written_as_toml_reads_them() {
        let odd = "a\\\"\u{301}\u{200b}\u{e9}";
        let text = format!("{SERVICE}{BACKEND}").replace("\"b\"", &format!("'''{odd}'''"));
        let path = format!("[admin]\nsocket = '/run/{odd} \tx'\n");
        let text = explained(&format!("{path}{text}"));
        has(&text, "name = \"a\\\\\\\"\u{301}\u{200b}\u{e9}\"");
    }
}
