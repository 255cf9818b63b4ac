//! Questions and answers of DNS (RFC 1035), as far as addresses and SRV records go.

use std::{net::IpAddr, time::Duration};

use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE,
    rdata::{OPT, RData},
};

/// Bytes of an answer by UDP that need no fragments anywhere (the size of DNS flag day 2020).
const UDP_SIZE: u16 = 1232;
/// CNAMEs that are followed.
const MOST_NAMES: usize = 16;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Servers.
    Srv,
}

impl Kind {
    const fn wire(self) -> TYPE {
        match self {
            Self::A => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
            Self::Srv => TYPE::SRV,
        }
    }

    /// The word for people.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        }
    }
}

/// A server of an SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
}

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) servers: Vec<Server>,
    /// The shortest of all records on the way.
    pub(super) ttl: Duration,
}

/// Why an answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is cut off: ask by TCP.
    Cut,
    /// It answers something else, or nothing; the right answer may be under way.
    Foreign,
    /// The server says so, in words.
    Refused(String),
}

/// A question.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Result<Vec<u8>, String> {
    let bad = |error: simple_dns::SimpleDnsError| format!("{name:?} cannot be asked for: {error}");
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name.trim_end_matches('.')).map_err(bad)?;
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(kind.wire()),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    *packet.opt_mut() = Some(OPT {
        opt_codes: Vec::new(),
        udp_packet_size: UDP_SIZE,
        version: 0,
    });
    packet.build_bytes_vec().map_err(bad)
}

/// Reads what came back for such a question.
pub(super) fn answer(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Answer, Unusable> {
    let packet = Packet::parse(bytes).map_err(|_| Unusable::Foreign)?;
    let asked = name.trim_end_matches('.');
    let is_asked = |found: &Name<'_>| found.to_string().eq_ignore_ascii_case(asked);
    let is_ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && packet.opcode() == OPCODE::StandardQuery
        && matches!(packet.questions.as_slice(), [one]
            if is_asked(&one.qname) && one.qtype == QTYPE::TYPE(kind.wire()));
    if !is_ours {
        return Err(Unusable::Foreign);
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Err(Unusable::Cut);
    }
    let code = packet.rcode();
    if code == RCODE::NameError {
        return Err(Unusable::Refused(format!("there is no name {asked}")));
    }
    if code != RCODE::NoError {
        return Err(Unusable::Refused(format!(
            "the server does not answer for {asked} ({code:?})"
        )));
    }
    Ok(collect(&packet, asked))
}

/// The records of the name, and of those that it is another name for.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of forty kinds of records, these are the ones asked for"
)]
fn collect(packet: &Packet<'_>, asked: &str) -> Answer {
    let mut names = vec![asked.to_owned()];
    let mut ttl = u32::MAX;
    while names.len() <= MOST_NAMES {
        let next = packet
            .answers
            .iter()
            .find_map(|record| match &record.rdata {
                RData::CNAME(target) if is_in(&names, &record.name) => {
                    let target = target.0.to_string();
                    let is_new = !names.iter().any(|name| name.eq_ignore_ascii_case(&target));
                    is_new.then_some((target, record.ttl))
                }
                _ => None,
            });
        let Some((target, own)) = next else { break };
        names.push(target);
        ttl = ttl.min(lifetime(own));
    }
    let mut answer = Answer::default();
    let of_names = |record: &&simple_dns::ResourceRecord<'_>| is_in(&names, &record.name);
    for record in packet.answers.iter().filter(of_names) {
        match &record.rdata {
            RData::A(a) => answer
                .addresses
                .push(IpAddr::V4(std::net::Ipv4Addr::from(a.address))),
            RData::AAAA(aaaa) => answer
                .addresses
                .push(IpAddr::V6(std::net::Ipv6Addr::from(aaaa.address))),
            RData::SRV(srv) => answer.servers.push(Server {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string(),
            }),
            _ => continue,
        }
        ttl = ttl.min(lifetime(record.ttl));
    }
    answer.ttl = if ttl == u32::MAX {
        Duration::ZERO
    } else {
        Duration::from_secs(ttl.into())
    };
    answer
}

/// A TTL with the highest bit is none at all (RFC 2181, section 8).
const fn lifetime(ttl: u32) -> u32 {
    if ttl > i32::MAX.cast_unsigned() {
        0
    } else {
        ttl
    }
}

fn is_in(names: &[String], found: &Name<'_>) -> bool {
    let found = found.to_string();
    names.iter().any(|name| name.eq_ignore_ascii_case(&found))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::{
        ResourceRecord,
        rdata::{A, CNAME, SRV},
    };

    use super::*;

    const NAME: &str = "web.example.org";

    fn reply(records: Vec<ResourceRecord<'_>>) -> Vec<u8> {
        let bytes = question(7, NAME, Kind::A).unwrap();
        let mut packet = Packet::parse(&bytes).unwrap().into_reply();
        packet.answers = records;
        packet.build_bytes_vec().unwrap()
    }

    fn a(name: &'static str, last: u8, ttl: u32) -> ResourceRecord<'static> {
        let address = u32::from_be_bytes([10, 0, 0, last]);
        let rdata = RData::A(A { address });
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, ttl, rdata)
    }

    fn cname(name: &'static str, target: &'static str) -> ResourceRecord<'static> {
        let rdata = RData::CNAME(CNAME(Name::new(target).unwrap()));
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, 20, rdata)
    }

    #[test]
    fn addresses_of_the_name_count_and_the_shortest_ttl() {
        let bytes = reply(vec![
            a(NAME, 1, 60),
            a("WEB.example.org", 2, 30),
            a("evil.org", 3, 1),
        ]);
        let found = answer(&bytes, 7, NAME, Kind::A).unwrap();
        assert_eq!(found.addresses.len(), 2);
        assert_eq!(found.ttl, Duration::from_secs(30));
        assert_eq!(answer(&bytes, 8, NAME, Kind::A), Err(Unusable::Foreign));
        assert_eq!(answer(&bytes, 7, "x.org", Kind::A), Err(Unusable::Foreign));
        assert_eq!(answer(&bytes, 7, NAME, Kind::Srv), Err(Unusable::Foreign));
    }

    #[test]
    fn a_ttl_beyond_all_bounds_is_none() {
        for (ttl, expected) in [
            (i32::MAX as u32, i32::MAX as u32),
            (1 << 31, 0),
            (u32::MAX, 0),
        ] {
            let found = answer(&reply(vec![a(NAME, 1, ttl)]), 7, NAME, Kind::A).unwrap();
            assert_eq!(found.ttl, Duration::from_secs(expected.into()));
        }
    }

    #[test]
    fn other_names_are_followed_and_loops_end() {
        let bytes = reply(vec![
            a("c.org", 1, 60),
            cname("b.org", "c.org"),
            cname(NAME, "b.org"),
            cname("c.org", NAME),
        ]);
        let found = answer(&bytes, 7, NAME, Kind::A).unwrap();
        assert_eq!(found.addresses.len(), 1);
        assert_eq!(found.ttl, Duration::from_secs(20));
    }

    #[test]
    fn servers_have_their_port_and_weight() {
        let bytes = question(7, NAME, Kind::Srv).unwrap();
        let mut packet = Packet::parse(&bytes).unwrap().into_reply();
        let rdata = RData::SRV(SRV {
            priority: 1,
            weight: 2,
            port: 8080,
            target: Name::new("a.example.org").unwrap(),
        });
        let name = Name::new(NAME).unwrap();
        packet.answers = vec![ResourceRecord::new(name, CLASS::IN, 5, rdata)];
        let found = answer(&packet.build_bytes_vec().unwrap(), 7, NAME, Kind::Srv).unwrap();
        let expected = Server {
            priority: 1,
            weight: 2,
            port: 8080,
            target: "a.example.org".to_owned(),
        };
        assert_eq!(found.servers, [expected]);
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(&bytes, 7, NAME, Kind::A);
        }

        #[test]
        fn a_damaged_answer_never_panics(at in 0usize..200, with: u8, cut in 0usize..200) {
            let mut bytes = reply(vec![a(NAME, 1, 60), cname(NAME, "b.org"), a("b.org", 2, 1)]);
            let length = bytes.len();
            bytes[at % length] = with;
            bytes.truncate(cut.max(1));
            let _ = answer(&bytes, 7, NAME, Kind::A);
        }
    }
}
