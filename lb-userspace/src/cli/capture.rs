//! `lb capture`

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use pcap_file::{
    PcapError,
    pcapng::{Block, PcapNgParser, blocks::interface_statistics::InterfaceStatisticsOption},
};

use super::{Failure, output};
use crate::{
    admin::client,
    capture::{LONGEST, Query},
};

/// Which packets, and where to.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// File to write, in the format pcapng; - for stdout
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: PathBuf,
    /// Only packets of this service, in both directions
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only packets with this verdict; * stands for anything, as in drop_*; may be given several
    /// times
    #[arg(long = "verdict", value_name = "VERDICT")]
    verdicts: Vec<String>,
    /// Look at one packet in so many
    #[arg(long, value_name = "N", default_value_t = 1)]
    sample: u32,
    /// End after so many packets
    #[arg(
        short = 'c',
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true
    )]
    count: u64,
    /// End after so many seconds
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    seconds: u32,
    /// Write so many bytes of each packet at most
    #[arg(long, value_name = "BYTES", default_value_t = LONGEST)]
    snaplen: u32,
}

pub(super) fn capture(socket: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let query = Query {
        service: arguments.service.clone(),
        verdicts: arguments.verdicts.clone(),
        sample: arguments.sample,
        count: arguments.count,
        seconds: arguments.seconds,
        snap: arguments.snaplen,
    };
    Query::decode(&query.encode()).map_err(|said| Failure::Wrong(anyhow::anyhow!("{said}")))?;
    let mut sink: Option<Sink> = None;
    let mut reader = Reader::default();
    let captured = client::capture(socket, &query, |piece| {
        // Not before there is something to write: a refusal leaves a former file as it is.
        let sink = match &mut sink {
            Some(sink) => sink,
            None => sink.insert(Sink::create(&arguments.file)?),
        };
        sink.write(&reader.read(piece))
    });
    let result = captured.map_err(Failure::failed)?;
    let is_reader_gone = matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
    if !is_reader_gone {
        result
            .with_context(|| format!("cannot write {}", arguments.file.display()))
            .map_err(Failure::Failed)?;
    }
    output::complain(&reader.summary());
    Ok(())
}

/// Where it goes.
enum Sink {
    Stdout(io::Stdout),
    File { file: File, length: u64 },
}

impl Sink {
    fn create(file: &Path) -> io::Result<Self> {
        if file == Path::new("-") {
            return Ok(Self::Stdout(io::stdout()));
        }
        let file = File::create(file)?;
        Ok(Self::File { file, length: 0 })
    }

    /// All of it, or, where a file cannot hold it, nothing.
    fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.write_all(blocks).and_then(|()| stdout.flush()),
            Self::File { file, length } => {
                let written = file.write_all(blocks);
                if written.is_ok() {
                    *length += blocks.len() as u64;
                } else {
                    // What failed is what there is to tell; pipes cannot be cut.
                    let _ = file.set_len(*length);
                }
                written
            }
        }
    }
}

/// Reads along, to say in the end what it was, and to hand on whole blocks only: wherever the
/// capture is ended, the file can be read to its end.
#[derive(Default)]
struct Reader {
    parser: Option<PcapNgParser>,
    rest: Vec<u8>,
    /// Something could not be read; what follows is handed on unread.
    is_over: bool,
    packets: u64,
    seen: u64,
    lost: u64,
}

impl Reader {
    /// What is whole now.
    fn read(&mut self, piece: &[u8]) -> Vec<u8> {
        if self.is_over {
            return piece.to_vec();
        }
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(piece);
        let mut left = whole.as_slice();
        while !left.is_empty() {
            let next = match &mut self.parser {
                None => match PcapNgParser::new(left) {
                    Ok((after, parser)) => {
                        self.parser = Some(parser);
                        left = after;
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Some(parser) => parser.next_block(left),
            };
            match next {
                Ok((after, Block::EnhancedPacket(_))) => {
                    self.packets += 1;
                    left = after;
                }
                Ok((after, Block::InterfaceStatistics(statistics))) => {
                    for option in statistics.options {
                        if let InterfaceStatisticsOption::IsbIfRecv(seen) = option {
                            self.seen = seen;
                        }
                        if let InterfaceStatisticsOption::IsbOsDrop(lost) = option {
                            self.lost = lost;
                        }
                    }
                    left = after;
                }
                Ok((after, _)) => left = after,
                Err(PcapError::IncompleteBuffer) => break,
                // What the agent writes is for other readers too; the summary can do without.
                Err(_) => {
                    self.is_over = true;
                    left = &[];
                }
            }
        }
        self.rest = left.to_vec();
        whole.truncate(whole.len() - self.rest.len());
        whole
    }

    fn summary(&self) -> String {
        let lost = match self.lost {
            0 => String::new(),
            lost => format!(", {lost} lost because they came too fast (--sample helps)"),
        };
        format!(
            "{} captured of {} that came{lost}",
            output::count(self.packets as usize, "packet"),
            self.seen
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capture::{CapturedPacket, Totals, Writer};

    #[test]
    fn blocks_are_counted_however_they_are_cut() {
        let mut writer = Writer::new(["eth0"].into_iter(), 96).unwrap();
        for length in 0..50 {
            writer
                .packet(&CapturedPacket {
                    interface: 0,
                    time: Duration::ZERO,
                    length: 60,
                    bytes: &vec![0; length],
                    comments: vec!["steered".to_owned()],
                })
                .unwrap();
        }
        let totals = Totals {
            seen: 70,
            lost: 2,
            captured: 50,
        };
        writer.totals(Duration::ZERO, totals).unwrap();
        let file = writer.take();
        for size in [1, 7, 64, 4096] {
            let mut reader = Reader::default();
            let mut written = Vec::new();
            for piece in file.chunks(size) {
                let whole = reader.read(piece);
                if whole.is_empty() {
                    continue;
                }
                written.extend(whole);
                let parsed = crate::cli::capture_file::frames(written.as_slice(), usize::MAX);
                assert!(parsed.is_ok(), "{parsed:?}");
            }
            assert_eq!(written, file);
            assert_eq!(
                reader.summary(),
                "50 packets captured of 70 that came, 2 lost because they came too fast \
                 (--sample helps)"
            );
        }
    }
}
