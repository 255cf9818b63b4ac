//! Rows of an answer.

/// An answer with rows: names of columns, and values, of which `None` is NULL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Of each column.
    pub names: Vec<String>,
    /// As many values as there are names in each.
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
}

impl Table {
    pub(super) fn row(&self, index: usize) -> Option<Row<'_>> {
        let values = self.rows.get(index)?;
        Some(Row {
            names: &self.names,
            values,
        })
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    names: &'a [String],
    values: &'a [Option<Vec<u8>>],
}

impl<'a> Row<'a> {
    /// The value of the first of these columns that is there; nothing if it is NULL.
    fn value(&self, names: &[&str]) -> Result<Option<&'a [u8]>, String> {
        let found = names.iter().find_map(|name| {
            let mut columns = self.names.iter();
            let index = columns.position(|column| column.eq_ignore_ascii_case(name))?;
            self.values.get(index)
        });
        match found {
            Some(value) => Ok(value.as_deref()),
            None => Err(format!("the answer has no column {}", names.join(" or "))),
        }
    }

    /// A text; an empty one for NULL.
    pub(super) fn text(&self, names: &[&str]) -> Result<&'a str, String> {
        let value = self.value(names)?.unwrap_or_default();
        std::str::from_utf8(value).map_err(|_| format!("{} is no text in UTF-8", names[0]))
    }

    /// A text that is there, or one that is not.
    pub(super) fn text_if_any(&self, names: &[&str]) -> Option<&'a str> {
        self.text(names).ok().filter(|text| !text.is_empty())
    }

    /// A number; nothing for NULL.
    pub(super) fn number(&self, names: &[&str]) -> Result<Option<u64>, String> {
        let Some(value) = self.value(names)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value).ok();
        let number = text.and_then(|text| text.trim().parse().ok());
        let wrong = || {
            let found = String::from_utf8_lossy(value);
            let short: String = found.chars().take(40).collect();
            format!("{} \"{short}\" is no number", names[0])
        };
        number.map(Some).ok_or_else(wrong)
    }

    /// Whether something is on: newer versions have other words than 0 and 1 for some variables,
    /// and all but "off" refuse something.
    pub(super) fn is_on(&self, names: &[&str]) -> Result<bool, String> {
        let text = self.text(names)?;
        Ok(!(text == "0" || text.eq_ignore_ascii_case("off") || text.is_empty()))
    }
}
