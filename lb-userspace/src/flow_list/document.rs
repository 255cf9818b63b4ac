//! The answer: one JSON document, made and read a line at a time.
//!
//! ```json
//! {"flows": [
//! {"protocol":"tcp","client":"198.51.100.7:40000",…},
//! {"protocol":"tcp","client":"198.51.100.8:40000",…}
//! ],"total": 2}
//! ```
//!
//! or, when only their number was asked for, `{"total": 2}`.

use std::io::Write as _;

/// Longest line that a reader takes: names have 64 characters.
const LONGEST_LINE: usize = 1 << 16;

/// Makes a document.
#[derive(Debug, Default)]
pub struct Writer {
    has_flows: bool,
}

impl Writer {
    /// Its beginning.
    pub fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"flows\": [\n");
    }

    /// What stands before the JSON of each flow, which must be on one line.
    pub fn next_flow(&mut self, out: &mut Vec<u8>) {
        if self.has_flows {
            out.extend_from_slice(b",\n");
        }
        self.has_flows = true;
    }

    /// Its end: how many flows there are, listed or not.
    pub fn end(&self, out: &mut Vec<u8>, total: u64) {
        let line_end = if self.has_flows { "\n" } else { "" };
        // Writing to a vector cannot fail.
        let _ = writeln!(out, "{line_end}],\"total\": {total}}}");
    }

    /// A document that says how many flows there are, and nothing else.
    pub fn total(out: &mut Vec<u8>, total: u64) {
        let _ = writeln!(out, "{{\"total\": {total}}}");
    }
}

/// What a line of a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The JSON of a flow.
    Flow(&'a [u8]),
    /// The last line: how many flows there are.
    Total(u64),
}

/// Reads a document in pieces.
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of a line that was cut.
    rest: Vec<u8>,
}

impl Reader {
    /// Takes the next piece, and tells of its lines.
    ///
    /// # Errors
    /// When it is no such document, and what `each` returns.
    pub fn read<E: From<NotADocument>>(
        &mut self,
        mut piece: &[u8],
        mut each: impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, after) = piece.split_at(end);
            piece = &after[1..];
            if self.rest.is_empty() {
                tell(line, &mut each)?;
            } else {
                self.rest.extend_from_slice(line);
                tell(&self.rest, &mut each)?;
                self.rest.clear();
            }
        }
        if self.rest.len() + piece.len() > LONGEST_LINE {
            return Err(NotADocument.into());
        }
        self.rest.extend_from_slice(piece);
        Ok(())
    }
}

/// What came is no list of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the agent sent is no list of flows")]
pub struct NotADocument;

fn tell<E: From<NotADocument>>(
    line: &[u8],
    each: &mut impl FnMut(Line<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let total = line
        .strip_prefix(b"]")
        .map(|rest| rest.strip_prefix(b",").unwrap_or(rest))
        .or_else(|| {
            line.strip_prefix(b"{")
                .filter(|rest| rest.starts_with(TOTAL))
        });
    if let Some(rest) = total {
        let number = rest
            .strip_prefix(TOTAL)
            .and_then(|rest| rest.strip_suffix(b"}"))
            .and_then(|number| std::str::from_utf8(number).ok()?.trim().parse().ok());
        return each(Line::Total(number.ok_or(NotADocument)?));
    }
    match line.strip_suffix(b",").unwrap_or(line) {
        b"{\"flows\": [" => Ok(()),
        flow if flow.starts_with(b"{") => each(Line::Flow(flow)),
        _ => Err(NotADocument.into()),
    }
}

const TOTAL: &[u8] = b"\"total\":";

#[cfg(test)]
mod tests {
    use super::*;

    fn document(flows: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::default();
        writer.begin(&mut out);
        for flow in flows {
            writer.next_flow(&mut out);
            out.extend_from_slice(flow.as_bytes());
        }
        writer.end(&mut out, 9);
        out
    }

    fn read(document: &[u8], piece: usize) -> Result<(Vec<String>, Option<u64>), NotADocument> {
        let mut reader = Reader::default();
        let (mut flows, mut total) = (Vec::new(), None);
        for piece in document.chunks(piece) {
            reader.read(piece, |line| {
                match line {
                    Line::Flow(flow) => flows.push(String::from_utf8_lossy(flow).into_owned()),
                    Line::Total(number) => total = Some(number),
                }
                Ok::<_, NotADocument>(())
            })?;
        }
        Ok((flows, total))
    }

    #[test]
    fn what_was_written_is_read_however_it_is_cut() {
        for flows in [&[][..], &[r#"{"a":1}"#], &[r#"{"a":1}"#, r#"{"b":[2]}"#]] {
            let document = document(flows);
            let value: serde_json::Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(value["flows"].as_array().map(Vec::len), Some(flows.len()));
            assert_eq!(value["total"], 9);
            for piece in [1, 2, 7, 1000] {
                let expected = flows.iter().map(ToString::to_string).collect();
                assert_eq!(read(&document, piece), Ok((expected, Some(9))));
            }
        }
    }

    #[test]
    fn a_mere_number_is_read_too() {
        let mut out = Vec::new();
        Writer::total(&mut out, 7);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value, serde_json::json!({"total": 7}));
        assert_eq!(read(&out, 3), Ok((Vec::new(), Some(7))));
    }

    #[test]
    fn anything_else_is_refused() {
        let long = vec![b'x'; LONGEST_LINE + 1];
        for text in [&b"<html>\n"[..], b"],\"total\": x}\n", b"]\n", &long] {
            assert_eq!(read(text, 4096), Err(NotADocument), "{text:?}");
        }
    }
}
