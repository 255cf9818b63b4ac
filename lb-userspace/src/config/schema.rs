//! The means to list a table's keys once: for reading, for messages and for the reference.
//!
//! [`table!`] makes a struct with a field per key. Reading never stops at the first problem: a
//! field that could not be read says so, and whoever looks at it goes on without.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    problem::{Place, Sink, quoted},
    suggest::{homes, nearest},
};

/// A value and the byte of the file it begins at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// What reading a key gave.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field<T> {
    /// Not in the file; its default depends on other keys.
    Absent,
    /// A problem has been reported.
    Invalid,
    /// In the file.
    Given(Located<T>),
    /// Not in the file; `at` is the head of the table.
    Default(Located<T>),
}

impl<T> Field<T> {
    /// The value, given or default.
    pub(super) const fn get(&self) -> Option<&Located<T>> {
        match self {
            Self::Given(located) | Self::Default(located) => Some(located),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// The value of the file.
    pub(super) const fn given(&self) -> Option<&Located<T>> {
        match self {
            Self::Given(located) => Some(located),
            Self::Absent | Self::Invalid | Self::Default(_) => None,
        }
    }

    /// The value, or what `default` says where the file does not name the key; nothing where a
    /// problem has been reported.
    pub(super) fn or_else(&self, default: impl FnOnce() -> T) -> Option<T>
    where
        T: Clone,
    {
        match self {
            Self::Given(located) | Self::Default(located) => Some(located.value.clone()),
            Self::Absent => Some(default()),
            Self::Invalid => None,
        }
    }
}

/// Why a value is refused: what follows `key value` in a sentence.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Element of a list, if it is not the value as a whole.
    pub(super) element: Option<(usize, usize)>,
    /// The value as found, if it helps to see it.
    pub(super) found: String,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(value: &DeValue<'_>, reason: impl Into<String>) -> Self {
        Self {
            element: None,
            found: found(value),
            reason: reason.into(),
        }
    }
}

/// A value as a message shows it.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(integer) => match integer.radix() {
            2 => format!("0b{}", integer.as_str()),
            8 => format!("0o{}", integer.as_str()),
            16 => format!("0x{}", integer.as_str()),
            _ => integer.as_str().to_owned(),
        },
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "(a date)".to_owned(),
        DeValue::Array(_) => "(a list)".to_owned(),
        DeValue::Table(_) => "(a table)".to_owned(),
    }
}

/// What values a key takes.
pub(super) trait Rule {
    /// What it makes of them.
    type Value: Clone;

    /// The value, or every reason why not.
    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Self::Value, Vec<Refusal>>;

    /// For the reference: "whole number, 0 to 256".
    fn allowed(&self) -> String;

    /// A value as it stands in a file: TOML that [`Rule::read`] takes for the same.
    fn show(&self, value: &Self::Value) -> String;

    /// What an editor can check of it: a JSON schema. A test asks for one that says something.
    fn schema(&self) -> serde_json::Value {
        serde_json::json!({})
    }
}

/// A rule and what holds where the file does not name the key.
pub(super) struct Key<R: Rule> {
    rule: R,
    default: Default<R::Value>,
}

enum Default<T> {
    Required,
    Value(T),
    Derived(&'static str),
}

/// A key that every such table must have.
pub(super) const fn required<R: Rule>(rule: R) -> Key<R> {
    Key {
        rule,
        default: Default::Required,
    }
}

/// A key with a fixed default.
pub(super) const fn optional<R: Rule>(rule: R, default: R::Value) -> Key<R> {
    Key {
        rule,
        default: Default::Value(default),
    }
}

/// A key whose default depends on others, in words.
pub(super) const fn derived<R: Rule>(rule: R, default: &'static str) -> Key<R> {
    Key {
        rule,
        default: Default::Derived(default),
    }
}

/// A key in the reference.
pub(super) struct KeyDoc {
    pub(super) name: &'static str,
    pub(super) allowed: String,
    pub(super) default: String,
    pub(super) doc: &'static str,
}

/// What a key has, as it would stand in a file.
pub(super) enum Shown {
    /// The same as where the file does not name it.
    Default(String),
    /// Something else.
    Set(String),
    /// The file does not name it, and what holds depends on other keys, in words.
    Derived(&'static str),
    /// The file does not name it, or names something that is refused.
    Missing,
}

impl<R: Rule> Key<R> {
    /// What holds with this value in the file, or with none.
    pub(super) fn shown(&self, value: Option<&Spanned<DeValue<'_>>>) -> Shown {
        let default = match &self.default {
            Default::Value(value) => Some(self.rule.show(value)),
            Default::Required | Default::Derived(_) => None,
        };
        let Some(value) = value else {
            return match (&self.default, default) {
                (Default::Derived(words), _) => Shown::Derived(words),
                (_, Some(default)) => Shown::Default(default),
                (_, None) => Shown::Missing,
            };
        };
        let Ok(value) = self.rule.read(value) else {
            return Shown::Missing;
        };
        let shown = self.rule.show(&value);
        if default.as_ref() == Some(&shown) {
            Shown::Default(shown)
        } else {
            Shown::Set(shown)
        }
    }

    /// Whether every such table must have it.
    pub(super) fn is_required(&self) -> bool {
        match &self.default {
            Default::Required => true,
            // Every such table needs it, and asks for it with an example.
            Default::Derived(words) => *words == "required",
            Default::Value(_) => false,
        }
    }

    /// Its rule, and its default as it would stand in a file.
    pub(super) fn schema(&self) -> (serde_json::Value, Option<String>) {
        let default = match &self.default {
            Default::Value(value) => Some(self.rule.show(value)),
            Default::Required | Default::Derived(_) => None,
        };
        (self.rule.schema(), default)
    }

    pub(super) fn doc(&self, name: &'static str, doc: &'static str) -> KeyDoc {
        let default = match &self.default {
            Default::Required => "required".to_owned(),
            Default::Value(value) => format!("`{}`", self.rule.show(value)),
            Default::Derived(words) => (*words).to_owned(),
        };
        KeyDoc {
            name,
            allowed: self.rule.allowed(),
            default,
            doc,
        }
    }
}

/// A table in the reference.
pub(super) struct TableDoc {
    pub(super) header: &'static str,
    pub(super) doc: &'static str,
    pub(super) keys: Vec<KeyDoc>,
    pub(super) tables: Vec<TableDoc>,
}

/// A table that [`table!`] made.
pub(super) trait Table: Sized {
    /// Keys and tables it may hold.
    const ALLOWED: &'static [&'static str];
    /// Keys and tables that a later version will know.
    const LATER: &'static [&'static str];
    /// As it stands in a file: `[agent]`.
    const HEADER: &'static str;
    /// What it is for.
    const DOC: &'static str;

    /// Everything in it, known to be a table.
    fn fields(reader: &mut Reader<'_, '_>) -> Self;

    /// What it may hold.
    fn doc() -> TableDoc;

    /// Shows everything that it may hold to a visitor: keys, then tables, then lists of tables.
    fn visit(visitor: &mut impl Visitor);
}

/// Whoever goes through the list of keys.
pub(super) trait Visitor: Sized {
    /// A key with a plain value.
    fn key<R: Rule>(&mut self, name: &'static str, key: &Key<R>, doc: &'static str);

    /// A table such as `[agent]`; whether to look into it is the visitor's affair.
    fn table<T: Table>(&mut self, name: &'static str);

    /// A list of tables such as `[[service]]`.
    fn tables<T: Table>(&mut self, name: &'static str);
}

/// One table of the file while it is read.
pub(super) struct Reader<'a, 'i> {
    table: &'a DeTable<'i>,
    at: usize,
    place: Place<'a>,
    sink: &'a mut Sink,
}

impl<'a, 'i> Reader<'a, 'i> {
    /// Reads a table, and reports the keys it should not have.
    pub(super) fn read<T: Table>(
        table: &'a DeTable<'i>,
        at: usize,
        place: Place<'a>,
        sink: &'a mut Sink,
    ) -> T {
        let mut reader = Self {
            table,
            at,
            place,
            sink,
        };
        for key in table.keys() {
            reader.check_key::<T>(key.span().start, key.get_ref());
        }
        T::fields(&mut reader)
    }

    fn check_key<T: Table>(&mut self, at: usize, key: &str) {
        if T::ALLOWED.contains(&key) {
            return;
        }
        let allowed = T::ALLOWED.join(", ");
        let key_quoted = quoted(key);
        let message = if T::LATER.contains(&key) {
            format!("{key_quoted} is not in this version yet (allowed: {allowed})")
        } else if let homes = homes(key, T::HEADER)
            && !homes.is_empty()
        {
            format!("{key_quoted} belongs into {homes} (allowed here: {allowed})")
        } else if let Some(near) = nearest(key, T::ALLOWED) {
            format!("unknown key {key_quoted}, did you mean \"{near}\"? (allowed: {allowed})")
        } else {
            format!("unknown key {key_quoted} (allowed: {allowed})")
        };
        self.sink.problem(at, &self.place, key, message);
    }

    /// A key with a plain value.
    pub(super) fn key<R: Rule>(&mut self, name: &'static str, key: Key<R>) -> Field<R::Value> {
        let Some(value) = self.table.get(name) else {
            return match key.default {
                Default::Required => {
                    let message = format!("{name} is missing");
                    self.sink.problem(self.at, &self.place, name, message);
                    Field::Invalid
                }
                Default::Value(value) => Field::Default(Located { value, at: self.at }),
                Default::Derived(_) => Field::Absent,
            };
        };
        let at = value.span().start;
        match key.rule.read(value) {
            Ok(value) => Field::Given(Located { value, at }),
            Err(refusals) => {
                for Refusal {
                    element,
                    found,
                    reason,
                } in refusals
                {
                    let (at, path) = match element {
                        Some((index, at)) => (at, format!("{name}[{index}]")),
                        None => (at, name.to_owned()),
                    };
                    let message = format!("{name} {found} {reason}");
                    self.sink.problem(at, &self.place, &path, message);
                }
                Field::Invalid
            }
        }
    }

    /// A table such as `[agent]`; one without keys where the file has none.
    pub(super) fn table<T: Table>(&mut self, name: &'static str) -> Field<T> {
        let empty = DeTable::new();
        let (table, at, is_given) = match self.table.get(name) {
            None => (&empty, self.at, false),
            Some(value) => match value.get_ref().as_table() {
                Some(table) => (table, value.span().start, true),
                None => {
                    let message = format!(
                        "{name} {} is not a table (write {})",
                        found(value.get_ref()),
                        T::HEADER
                    );
                    self.sink
                        .problem(value.span().start, &self.place, name, message);
                    return Field::Invalid;
                }
            },
        };
        let value = Reader::read(table, at, self.place.table(name), self.sink);
        let located = Located { value, at };
        if is_given {
            Field::Given(located)
        } else {
            Field::Default(located)
        }
    }

    /// A list of tables such as `[[service]]`.
    pub(super) fn tables<T: Table>(&mut self, name: &'static str) -> Vec<Located<T>> {
        let Some(value) = self.table.get(name) else {
            return Vec::new();
        };
        let list = value.get_ref().as_array();
        let elements = list.map_or(&[][..], |list| &list[..]);
        if list.is_none() {
            let message = format!(
                "{name} {} is not a list of tables (write {})",
                found(value.get_ref()),
                T::HEADER
            );
            self.sink
                .problem(value.span().start, &self.place, name, message);
        }
        let mut read = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let at = element.span().start;
            let Some(table) = element.get_ref().as_table() else {
                let path = format!("{name}[{index}]");
                let found = found(element.get_ref());
                let message = format!("{path} {found} is not a table (write {})", T::HEADER);
                self.sink.problem(at, &self.place, &path, message);
                continue;
            };
            let own_name = table.get("name").and_then(|value| value.get_ref().as_str());
            let place = self.place.element(name, index, own_name);
            read.push(Located {
                value: Reader::read(table, at, place, self.sink),
                at,
            });
        }
        read
    }
}

/// A table of the file: its keys with their rules, the tables in it, what comes later.
macro_rules! table {
    (
        $(#[doc = $doc:literal])*
        struct $name:ident = $header:literal
        keys { $( $(#[doc = $key_doc:literal])* $key:ident: $type:ty = $rule:expr, )* }
        $(tables { $( $table:ident: $table_type:ty, )* })?
        $(lists { $( $list:ident: $list_type:ty, )* })?
        $(later { $( $later:ident, )* })?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        #[allow(dead_code, reason = "some keys are only there to be refused")]
        pub(in crate::config) struct $name {
            $( $(#[doc = $key_doc])* pub(in crate::config) $key: $crate::config::schema::Field<$type>, )*
            $( $( pub(in crate::config) $table: $crate::config::schema::Field<$table_type>, )* )?
            $( $( pub(in crate::config) $list: Vec<$crate::config::schema::Located<$list_type>>, )* )?
        }

        impl $crate::config::schema::Table for $name {
            const ALLOWED: &'static [&'static str] = &[
                $( stringify!($key), )*
                $( $( stringify!($table), )* )?
                $( $( stringify!($list), )* )?
            ];
            const LATER: &'static [&'static str] = &[ $( $( stringify!($later), )* )? ];
            const HEADER: &'static str = $header;
            const DOC: &'static str = concat!($($doc, "\n",)*);

            fn fields(reader: &mut $crate::config::schema::Reader<'_, '_>) -> Self {
                Self {
                    $( $key: reader.key(stringify!($key), $rule), )*
                    $( $( $table: reader.table(stringify!($table)), )* )?
                    $( $( $list: reader.tables(stringify!($list)), )* )?
                }
            }

            fn doc() -> $crate::config::schema::TableDoc {
                $crate::config::schema::TableDoc {
                    header: Self::HEADER,
                    doc: Self::DOC,
                    keys: vec![
                        $( $rule.doc(stringify!($key), concat!($($key_doc, "\n",)*)), )*
                    ],
                    tables: vec![
                        $( $( <$table_type as $crate::config::schema::Table>::doc(), )* )?
                        $( $( <$list_type as $crate::config::schema::Table>::doc(), )* )?
                    ],
                }
            }

            fn visit(visitor: &mut impl $crate::config::schema::Visitor) {
                $( visitor.key(stringify!($key), &$rule, concat!($($key_doc, "\n",)*)); )*
                $( $( visitor.table::<$table_type>(stringify!($table)); )* )?
                $( $( visitor.tables::<$list_type>(stringify!($list)); )* )?
            }
        }
    };
}
pub(super) use table;
