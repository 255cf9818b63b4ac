//! The question, as the query of a URL.

use std::{fmt, net::SocketAddr, str::FromStr};

use lb_common::{abi::Protocol, headers::tcp_flags};

use super::{from_hex, to_hex};
use crate::query_string;

/// What would become of which packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The packet.
    pub question: Question,
    /// The interface it comes in by; nothing for the first of the config.
    pub interface: Option<String>,
}

/// Which packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Such a frame.
    Frame(Vec<u8>),
    /// One that is made up.
    Packet(PacketAsked),
}

/// A packet to make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketAsked {
    /// Its source.
    pub from: SocketAddr,
    /// Its destination.
    pub to: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The flags of TCP.
    pub flags: Flags,
}

/// Flags of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

const NAMES: [(&str, u8); 6] = [
    ("syn", tcp_flags::SYN),
    ("ack", tcp_flags::ACK),
    ("fin", tcp_flags::FIN),
    ("rst", tcp_flags::RST),
    ("psh", 0x08),
    ("urg", 0x20),
];

impl Default for Flags {
    fn default() -> Self {
        Self(tcp_flags::SYN)
    }
}

impl FromStr for Flags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut flags = 0;
        for word in text.split([',', '+', '|']).filter(|word| !word.is_empty()) {
            let known = NAMES
                .iter()
                .find(|(name, _)| word.trim().eq_ignore_ascii_case(name));
            let Some((_, flag)) = known else {
                return Err(format!(
                    "{word:?} is no flag of TCP (allowed: syn, ack, fin, rst, psh and urg, with \
                     commas between)"
                ));
            };
            flags |= flag;
        }
        Ok(Self(flags))
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<&str> = NAMES
            .iter()
            .filter(|(_, flag)| self.0 & flag != 0)
            .map(|(name, _)| *name)
            .collect();
        f.write_str(&set.join(","))
    }
}

/// A protocol from its word.
///
/// # Errors
/// With a sentence.
fn protocol(word: &str) -> Result<Protocol, String> {
    match word {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(format!("proto: {word:?} is none of tcp, udp")),
    }
}

impl Query {
    /// As the query of a URL, without the question mark.
    #[must_use]
    pub fn encode(&self) -> String {
        let (frame, packet) = match &self.question {
            Question::Frame(frame) => (Some(to_hex(frame)), None),
            Question::Packet(packet) => (None, Some(packet)),
        };
        let proto = |packet: &PacketAsked| match packet.protocol {
            Protocol::Tcp => "tcp".to_owned(),
            Protocol::Udp => "udp".to_owned(),
        };
        query_string::encode([
            ("frame", frame),
            ("from", packet.map(|packet| packet.from.to_string())),
            ("to", packet.map(|packet| packet.to.to_string())),
            ("proto", packet.map(proto)),
            ("flags", packet.map(|packet| packet.flags.to_string())),
            ("interface", self.interface.clone()),
        ])
    }

    /// From the query of a URL.
    ///
    /// # Errors
    /// With a sentence about what is wrong in it.
    pub fn decode(text: &str) -> Result<Self, String> {
        let (mut frame, mut from, mut to, mut interface) = (None, None, None, None);
        let (mut asked, mut flags) = (Protocol::Tcp, Flags::default());
        let end = |name: &str, value: &str| {
            value
                .parse::<SocketAddr>()
                .map_err(|_| format!("{name}: {value:?} is no ADDRESS:PORT"))
        };
        for pair in query_string::decode(text) {
            let (name, value) = pair?;
            match name {
                "frame" => frame = Some(from_hex(&value)?),
                "from" => from = Some(end(name, &value)?),
                "to" => to = Some(end(name, &value)?),
                "proto" => asked = protocol(&value)?,
                "flags" => flags = value.parse()?,
                "interface" => interface = Some(value),
                _ => {
                    return Err(format!(
                        "{name:?} is nothing that belongs to a packet (allowed: frame, or from, \
                         to, proto, flags; and interface)"
                    ));
                }
            }
        }
        let question = match (frame, from, to) {
            (Some(frame), None, None) => Question::Frame(frame),
            (None, Some(from), Some(to)) => Question::Packet(PacketAsked {
                from,
                to,
                protocol: asked,
                flags,
            }),
            _ => return Err("say which packet: either frame, or from and to".to_owned()),
        };
        Ok(Self {
            question,
            interface,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_the_way_to_the_agent() {
        let packet = Question::Packet(PacketAsked {
            from: "[2001:db8::1]:40000".parse().unwrap(),
            to: "[2001:db8::2]:80".parse().unwrap(),
            protocol: Protocol::Udp,
            flags: Flags(0x12),
        });
        for question in [packet, Question::Frame(vec![7; 60])] {
            for interface in [None, Some("eth0.100".to_owned())] {
                let query = Query {
                    question: question.clone(),
                    interface,
                };
                assert_eq!(Query::decode(&query.encode()), Ok(query));
            }
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_a_sentence() {
        for (text, word) in [
            ("", "either frame, or from and to"),
            ("from=10.0.0.1:1", "either frame, or from and to"),
            ("frame=00&from=10.0.0.1:1", "1 bytes"),
            ("from=10.0.0.1", "no ADDRESS:PORT"),
            ("proto=icmp", "tcp, udp"),
            ("flags=syn,ece", "\"ece\""),
            ("colour=red", "allowed: frame"),
        ] {
            let sentence = Query::decode(text).unwrap_err();
            assert!(sentence.contains(word), "{text}: {sentence}");
        }
    }

    #[test]
    fn flags_have_names() {
        assert_eq!("SYN,ack".parse(), Ok(Flags(0x12)));
        assert_eq!(Flags(0x12).to_string(), "syn,ack");
        assert_eq!("".parse(), Ok(Flags(0)));
    }
}
