//! `lb why`

use std::{
    fmt::Write as _,
    fs::File,
    io::BufReader,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use lb_common::abi::Protocol;

use super::{Failure, capture_file, output};
use crate::{
    admin::client,
    why::{self, Answer, Flags, PacketAsked, Query, Question},
};

/// What would become of which packet.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("packet").required(true).args(["from", "frame", "pcap"]))]
pub(super) struct Arguments {
    /// Source of the packet, ADDRESS:PORT
    #[arg(long, value_name = "ADDR:PORT", requires = "to")]
    from: Option<SocketAddr>,
    /// Destination of the packet, ADDRESS:PORT
    #[arg(long, value_name = "ADDR:PORT", requires = "from")]
    to: Option<SocketAddr>,
    /// Protocol of the packet
    #[arg(long, value_enum, default_value = "tcp", requires = "from")]
    proto: Proto,
    /// Flags of a TCP packet: syn, ack, fin, rst, psh, urg, with commas between
    #[arg(long, value_name = "FLAGS", default_value = "syn", requires = "from")]
    flags: Flags,
    /// Another packet: an Ethernet frame in hexadecimal digits
    #[arg(long, value_name = "HEX")]
    frame: Option<String>,
    /// Other packets: those of a pcap or pcapng file with Ethernet frames, one after the other
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Of a file, ask about so many packets at most
    #[arg(long, value_name = "N", default_value_t = 100, requires = "pcap")]
    limit: usize,
    /// Interface that it comes in by [default: the first that steering is attached to]
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// As JSON: one document, or for a file an array
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Proto {
    Tcp,
    Udp,
}

pub(super) fn why(socket: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let ask = |question: Question| {
        let query = Query {
            question,
            interface: arguments.interface.clone(),
        };
        client::why(socket, &query).map_err(Failure::failed)
    };
    if let Some(file) = &arguments.pcap {
        return ask_about_file(file, arguments, ask);
    }
    let question = match (&arguments.frame, arguments.from, arguments.to) {
        (Some(frame), _, _) => Question::Frame(
            why::from_hex(frame)
                .map_err(|said| Failure::Wrong(anyhow::anyhow!("--frame: {said}")))?,
        ),
        (None, Some(from), Some(to)) => Question::Packet(PacketAsked {
            from,
            to,
            protocol: match arguments.proto {
                Proto::Tcp => Protocol::Tcp,
                Proto::Udp => Protocol::Udp,
            },
            flags: arguments.flags,
        }),
        (None, _, _) => {
            return Err(Failure::Wrong(anyhow::anyhow!(
                "say which packet: --from and --to, --frame, or --pcap"
            )));
        }
    };
    let answer = ask(question)?;
    if arguments.json {
        return print_json(&answer);
    }
    output::print(page(&answer).as_bytes())
}

fn ask_about_file(
    file: &Path,
    arguments: &Arguments,
    ask: impl Fn(Question) -> Result<Answer, Failure>,
) -> Result<(), Failure> {
    let named = |error: anyhow::Error| {
        Failure::Wrong(error.context(format!("cannot read {}", file.display())))
    };
    let opened = File::open(file).map_err(|error| named(error.into()))?;
    let frames = capture_file::frames(BufReader::new(opened), arguments.limit).map_err(named)?;
    let mut answers = Vec::new();
    for (index, frame) in frames.into_iter().enumerate() {
        if let Err(said) = why::check_length(&frame) {
            output::complain(&format!("packet {}: {said}", index + 1));
            continue;
        }
        let answer = ask(Question::Frame(frame))?;
        if arguments.json {
            answers.push(answer);
        } else {
            output::print(format!("{}. {}\n", index + 1, page(&answer)).as_bytes())?;
        }
    }
    if arguments.json {
        return print_json(&answers);
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(value).map_err(Failure::failed)?;
    text.push(b'\n');
    output::print(&text)
}

/// An answer for people.
fn page(answer: &Answer) -> String {
    let mut page = format!("{}, in by {}\n", answer.packet, answer.interface);
    for decision in &answer.decisions {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(page, "  {decision}");
    }
    let _ = writeln!(page, "{}: {}", answer.verdict, answer.explanation);
    if let (Some(egress), Some(sent)) = (&answer.egress, &answer.sent) {
        let _ = writeln!(page, "out by {egress}: {sent}");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_the_packet_to_what_leaves() {
        let answer = Answer {
            packet: "tcp 198.51.100.7:40000 > 203.0.113.10:80 [syn], TTL 64".to_owned(),
            interface: "eth0".to_owned(),
            decisions: vec!["it is of no flow that is known".to_owned()],
            verdict: "steered".to_owned(),
            explanation: "Sent to a backend.".to_owned(),
            egress: Some("eth1".to_owned()),
            sent: Some("tcp 198.51.100.7:40000 > 10.0.0.11:8080 [syn], TTL 63".to_owned()),
            frame: String::new(),
            sent_frame: None,
        };
        assert_eq!(
            page(&answer),
            "\
tcp 198.51.100.7:40000 > 203.0.113.10:80 [syn], TTL 64, in by eth0
  it is of no flow that is known
steered: Sent to a backend.
out by eth1: tcp 198.51.100.7:40000 > 10.0.0.11:8080 [syn], TTL 63
"
        );
    }
}
