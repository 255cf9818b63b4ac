//! Flows for people: a table that is written while it is read.

use std::io::Write as _;

use super::{output::count, status_page::span};
use crate::flow_list::{
    Flow,
    document::{Line, NotADocument, Reader},
};

const COLUMNS: [&str; 6] = [
    "protocol",
    "client",
    "service",
    "backend",
    "state",
    "expires in",
];
/// Flows that are looked at to find out how wide columns are. Later ones may be wider, and then
/// push the rest of their line aside.
const SAMPLE: usize = 512;

type Row = [String; COLUMNS.len()];

/// The page in the making.
#[derive(Debug, Default)]
pub(super) struct FlowPage {
    reader: Reader,
    rows: Rows,
    total: Option<u64>,
}

#[derive(Debug, Default)]
struct Rows {
    /// Those that wait for the widths.
    sample: Vec<Row>,
    widths: Option<[usize; COLUMNS.len()]>,
    listed: u64,
    text: Vec<u8>,
}

impl FlowPage {
    /// Takes in a piece of the document.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<(), NotADocument> {
        let Self {
            reader,
            rows,
            total,
        } = self;
        reader.read(piece, |line| {
            match line {
                Line::Flow(json) => {
                    let flow: Flow<'_> = serde_json::from_slice(json).map_err(|_| NotADocument)?;
                    rows.add(row(&flow));
                }
                Line::Total(number) => *total = Some(number),
            }
            Ok(())
        })
    }

    /// The text that is ready.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rows.text)
    }

    /// Ends the page.
    pub(super) fn finish(&mut self) -> Result<(), NotADocument> {
        let total = self.total.ok_or(NotADocument)?;
        self.rows.release();
        let listed = self.rows.listed;
        let what = count(usize::try_from(total).unwrap_or(usize::MAX), "flow");
        // Writing to a vector cannot fail, here and below.
        let _ = match listed {
            0 if total == 0 => writeln!(self.rows.text, "no flows"),
            _ if listed < total => writeln!(self.rows.text, "\n{listed} of {what}"),
            _ => writeln!(self.rows.text, "\n{what}"),
        };
        Ok(())
    }
}

impl Rows {
    fn add(&mut self, row: Row) {
        self.listed += 1;
        if let Some(widths) = &self.widths {
            write_row(&mut self.text, widths, &row);
            return;
        }
        self.sample.push(row);
        if self.sample.len() == SAMPLE {
            self.release();
        }
    }

    /// Writes those that waited, below the heading.
    fn release(&mut self) {
        if self.widths.is_some() {
            return;
        }
        let mut widths = COLUMNS.map(str::len);
        for row in &self.sample {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        if !self.sample.is_empty() {
            write_row(&mut self.text, &widths, &COLUMNS.map(str::to_owned));
        }
        for row in std::mem::take(&mut self.sample) {
            write_row(&mut self.text, &widths, &row);
        }
        self.widths = Some(widths);
    }
}

/// As the tables of the status page are. The last column is to the right.
fn write_row(text: &mut Vec<u8>, widths: &[usize; COLUMNS.len()], row: &Row) {
    let [protocol, client, service, backend, state, expires] = row;
    let [a, b, c, d, e, f] = *widths;
    let _ = writeln!(
        text,
        " {protocol:a$}  {client:b$}  {service:c$}  {backend:d$}  {state:e$}  {expires:>f$}"
    );
}

fn row(flow: &Flow<'_>) -> Row {
    let backend = match (&flow.backend, &flow.backend_address) {
        (Some(name), _) => name.clone(),
        (None, Some(address)) => address.clone(),
        (None, None) => "-".to_owned(),
    };
    [
        flow.protocol.clone().into_owned(),
        flow.client.clone().into_owned(),
        match &flow.service {
            Some(name) => name.clone(),
            None => flow.service_address.clone().into_owned(),
        },
        backend,
        flow.state.to_string(),
        span(flow.expires_in_seconds),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> String {
        format!(
            r#"{{"protocol":"tcp","client":"198.51.100.7:{port}","service":"web","service_address":"203.0.113.10:80","backend":"web1","backend_address":"10.0.0.11:8080","state":"established","expires_in_seconds":899.9}}"#
        )
    }

    fn page(document: &str) -> String {
        let mut page = FlowPage::default();
        let mut text = Vec::new();
        for piece in document.as_bytes().chunks(100) {
            page.read(piece).unwrap();
            text.extend(page.take());
        }
        page.finish().unwrap();
        text.extend(page.take());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let former = r#"{"protocol":"udp","client":"[2001:db8::1]:5","service":null,"service_address":"203.0.113.10:53","backend":null,"backend_address":null,"state":"half-open","expires_in_seconds":3.2}"#;
        let document = format!(
            "{{\"flows\": [\n{},\n{former}\n],\"total\": 7}}\n",
            flow(40000)
        );
        let expected = "
 protocol  client              service          backend  state        expires in
 tcp       198.51.100.7:40000  web              web1     established      14 min
 udp       [2001:db8::1]:5     203.0.113.10:53  -        half-open         3.2 s

2 of 7 flows
";
        assert_eq!(page(&document), expected[1..]);
    }

    #[test]
    fn a_long_list_is_written_while_it_is_read() {
        let mut page = FlowPage::default();
        page.read(b"{\"flows\": [\n").unwrap();
        for port in 0..SAMPLE as u16 {
            assert!(page.take().is_empty());
            page.read(format!("{},\n", flow(port)).as_bytes()).unwrap();
        }
        let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines(&page.take()), SAMPLE + 1);
        page.read(format!("{},\n", flow(1)).as_bytes()).unwrap();
        assert_eq!(lines(&page.take()), 1);
    }

    #[test]
    fn no_flow_is_said_in_words_and_an_end_without_a_total_is_refused() {
        assert_eq!(page("{\"flows\": [\n],\"total\": 0}\n"), "no flows\n");
        let mut page = FlowPage::default();
        page.read(b"{\"flows\": [\n").unwrap();
        assert_eq!(page.finish(), Err(NotADocument));
    }
}
