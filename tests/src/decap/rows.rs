//! Rows: a frame in, a verdict and a frame out. Frames are built by etherparse, which shares no
//! code with the function.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header};
use lb_common::{
    decap::{Verdict, ecn, host::HostRules},
    headers::ethertype,
};
use lb_packets::{ACK, Fields, PSH, Packet};

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is shown.
    pub name: String,
    /// What the agent told.
    pub rules: HostRules,
    /// What comes in.
    pub frame: Vec<u8>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The frame afterwards; `None` where it does not matter.
    pub out: Option<Vec<u8>>,
}

const VIP4: [u8; 4] = [203, 0, 113, 10];
const VIP6: [u16; 8] = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10];

/// How a packet is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    IpIp,
    Gue1,
    /// With so many words of optional fields.
    Gue0(u8),
}

const KINDS: [Kind; 5] = [
    Kind::IpIp,
    Kind::Gue1,
    Kind::Gue0(0),
    Kind::Gue0(1),
    Kind::Gue0(31),
];

/// What stands around a packet.
#[derive(Clone, Debug)]
struct Tunnel {
    kind: Kind,
    source: IpAddr,
    destination: IpAddr,
    ecn: u8,
    /// EtherTypes and tag control information.
    tags: Vec<(u16, u16)>,
    /// IPv4 options, a multiple of 4 bytes.
    options: Vec<u8>,
    /// IPv4: offset in units of 8 bytes and "more fragments".
    fragment: (u16, bool),
    /// IPv6: a destination options header.
    has_extension: bool,
    /// Bytes behind the packet inside, within the outer lengths.
    surplus: usize,
    /// Bytes behind the outer packet.
    padding: usize,
}

impl Tunnel {
    fn new(kind: Kind, is_v4: bool) -> Self {
        let (source, destination) = if is_v4 {
            (IpAddr::from([172, 16, 3, 4]), IpAddr::from([10, 0, 0, 11]))
        } else {
            (
                IpAddr::from([0x100, 0, 0, 0, 0, 0, 3, 4]),
                IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0x11]),
            )
        };
        Self {
            kind,
            source,
            destination,
            ecn: 0,
            tags: Vec::new(),
            options: Vec::new(),
            fragment: (0, false),
            has_extension: false,
            surplus: 0,
            padding: 0,
        }
    }

    fn link(&self, payload: u16) -> Vec<u8> {
        let mut link = vec![2, 0, 0, 0, 0, 0x11, 2, 0, 0, 0, 0, 0xfe];
        for (kind, tci) in &self.tags {
            link.extend(kind.to_be_bytes());
            link.extend(tci.to_be_bytes());
        }
        link.extend(payload.to_be_bytes());
        link
    }

    /// Bytes in front of the outer IP header.
    fn link_length(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Bytes of the outer IP header.
    fn header_length(&self) -> usize {
        match self.source {
            IpAddr::V4(_) => 20 + self.options.len(),
            IpAddr::V6(_) => 40 + if self.has_extension { 8 } else { 0 },
        }
    }

    fn around(&self, inner: &[u8]) -> Vec<u8> {
        let inner = [inner, &vec![0xee; self.surplus]].concat();
        let is_v4 = inner[0] >> 4 == 4;
        let number = if is_v4 { 4 } else { 41 };
        let gue = match self.kind {
            Kind::IpIp => None,
            Kind::Gue1 => Some(Vec::new()),
            Kind::Gue0(words) => {
                let mut header = vec![words, number, 0, 0];
                header.extend(std::iter::repeat_n(0xaa, usize::from(words) * 4));
                Some(header)
            }
        };
        let (protocol, behind) = match gue {
            None => (number, inner),
            Some(header) => {
                let length = (8 + header.len() + inner.len()) as u16;
                let mut udp = vec![0xc1, 0x23, 0x17, 0xc0];
                udp.extend(length.to_be_bytes());
                udp.extend([0, 0]);
                (17, [udp, header, inner].concat())
            }
        };
        let frame = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let number = IpNumber(protocol);
                let mut header = Ipv4Header::new(0, 64, number, source, destination)
                    .expect("nothing inside yet");
                header.options = self.options[..].try_into().expect("options fit");
                header.total_len = (header.header_len() + behind.len()) as u16;
                header.ecn = self.ecn.try_into().expect("two bits");
                header.dont_fragment = self.fragment == (0, false);
                header.fragment_offset = self.fragment.0.try_into().expect("thirteen bits");
                header.more_fragments = self.fragment.1;
                header.header_checksum = header.calc_header_checksum();
                let link = self.link(ethertype::IPV4);
                [link, header.to_bytes().to_vec(), behind].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let extension: &[u8] = if self.has_extension {
                    // The limit that Linux sends (RFC 2473, section 4.1.1).
                    &[protocol, 0, 4, 1, 4, 1, 1, 0]
                } else {
                    &[]
                };
                let header = Ipv6Header {
                    traffic_class: self.ecn,
                    payload_length: (extension.len() + behind.len()) as u16,
                    next_header: IpNumber(if self.has_extension { 60 } else { protocol }),
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                let link = self.link(ethertype::IPV6);
                [link, header.to_bytes().to_vec(), extension.to_vec(), behind].concat()
            }
            _ => unreachable!("both ends are of one family"),
        };
        [frame, vec![0; self.padding]].concat()
    }

    /// The frame without the outer header.
    fn taken_out(&self, inner: &[u8]) -> Vec<u8> {
        let payload = if inner[0] >> 4 == 4 {
            ethertype::IPV4
        } else {
            ethertype::IPV6
        };
        let rest = [vec![0xee; self.surplus], vec![0; self.padding]].concat();
        [self.link(payload), inner.to_vec(), rest].concat()
    }
}

/// A packet for a VIP, from its IP header on.
fn packet(is_v4: bool) -> Packet {
    let (client, vip): (IpAddr, IpAddr) = if is_v4 {
        ([198, 51, 100, 7].into(), VIP4.into())
    } else {
        ([0x2001, 0xdb8, 1, 0, 0, 0, 0, 7].into(), VIP6.into())
    };
    let fields = Fields {
        flags: ACK | PSH,
        sequence: 1,
        acknowledgement: 2,
        window: 1000,
        has_options: true,
    };
    Packet::tcp(
        SocketAddr::new(client, 40_000),
        SocketAddr::new(vip, 80),
        fields,
    )
    .payload(vec![7; 333])
    .hop_limit(1)
}

fn bytes(packet: &Packet) -> Vec<u8> {
    packet.bytes()[packet.network_offset()..].to_vec()
}

fn rules() -> HostRules {
    HostRules::for_vips([VIP4.into(), VIP6.into()])
}

fn untouched(name: String, frame: Vec<u8>, verdict: Verdict) -> Row {
    Row {
        name,
        rules: rules(),
        out: Some(frame.clone()),
        frame,
        verdict,
    }
}

fn taken_out(name: String, tunnel: &Tunnel, inner: &[u8]) -> Row {
    Row {
        name,
        rules: rules(),
        frame: tunnel.around(inner),
        verdict: Verdict::Decapsulated,
        out: Some(tunnel.taken_out(inner)),
    }
}

/// Every kind of tunnel in and around both versions.
fn combinations() -> impl Iterator<Item = (String, Tunnel, Packet)> {
    let families = [(true, true), (true, false), (false, true), (false, false)];
    families.into_iter().flat_map(|(inner, outer)| {
        let version = |is_v4: bool| if is_v4 { 4 } else { 6 };
        KINDS.map(|kind| {
            let name = format!("IPv{} in IPv{}, {kind:?}", version(inner), version(outer));
            (name, Tunnel::new(kind, outer), packet(inner))
        })
    })
}

/// All rows.
#[must_use]
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, tunnel, packet) in combinations() {
        rows.extend(whole(&name, &tunnel, &packet));
        rows.extend(congestion(&name, &tunnel, &packet));
        rows.extend(lies(&name, &tunnel, &packet));
        rows.extend(who(&name, &tunnel, &packet));
        rows.extend(only_one_layer(&name, &tunnel, &packet));
    }
    rows.extend(others());
    rows
}

fn whole(name: &str, tunnel: &Tunnel, packet: &Packet) -> Vec<Row> {
    let inner = bytes(packet);
    let with = |what: &str, tunnel: Tunnel| taken_out(format!("{name}: {what}"), &tunnel, &inner);
    let mut rows = vec![
        with("it comes out as it is", tunnel.clone()),
        with(
            "behind a tag, whose priority stays",
            Tunnel {
                tags: vec![(ethertype::VLAN, 0xe064)],
                ..tunnel.clone()
            },
        ),
        with(
            "behind two tags",
            Tunnel {
                tags: vec![(ethertype::SERVICE_VLAN, 0x2005), (ethertype::VLAN, 0x0064)],
                ..tunnel.clone()
            },
        ),
        with(
            "with padding behind",
            Tunnel {
                padding: 9,
                surplus: 3,
                ..tunnel.clone()
            },
        ),
    ];
    if tunnel.source.is_ipv4() {
        for length in [4, 40] {
            rows.push(with(
                "behind IPv4 options",
                Tunnel {
                    options: vec![1; length],
                    ..tunnel.clone()
                },
            ));
        }
        for (what, fragment) in [
            ("first", (0, true)),
            ("middle", (7, true)),
            ("last", (7, false)),
        ] {
            let frame = Tunnel {
                fragment,
                ..tunnel.clone()
            };
            let name = format!("{name}: a {what} fragment");
            rows.push(untouched(name, frame.around(&inner), Verdict::PassFragment));
        }
    } else {
        rows.push(with(
            "behind an extension header",
            Tunnel {
                has_extension: true,
                ..tunnel.clone()
            },
        ));
    }
    rows
}

/// The table of RFC 6040: rows by the bits inside, columns by those outside.
const ECN: [[Option<u8>; 4]; 4] = {
    use ecn::{CE, ECT_0, ECT_1, NOT_ECT};
    // Outside: Not-ECT (00), ECT(1) (01), ECT(0) (10), CE (11).
    [
        [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
        [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
        [Some(ECT_0), Some(ECT_1), Some(ECT_0), Some(CE)],
        [Some(CE), Some(CE), Some(CE), Some(CE)],
    ]
};

fn congestion(name: &str, tunnel: &Tunnel, packet: &Packet) -> Vec<Row> {
    let mut rows = Vec::new();
    for (inside, columns) in (0u8..).zip(ECN) {
        for (outside, arriving) in (0u8..).zip(columns) {
            let tunnel = Tunnel {
                ecn: outside,
                ..tunnel.clone()
            };
            let class = |ecn: u8| Packet {
                traffic_class: 0xb8 | ecn,
                ..packet.clone()
            };
            let inner = bytes(&class(inside));
            let out = arriving.map(|ecn| tunnel.taken_out(&bytes(&class(ecn))));
            rows.push(Row {
                name: format!("{name}: ECN {inside:02b} in {outside:02b}"),
                rules: rules(),
                frame: tunnel.around(&inner),
                verdict: if out.is_some() {
                    Verdict::Decapsulated
                } else {
                    Verdict::DropCongestion
                },
                out,
            });
        }
    }
    rows
}

/// Frames that are cut anywhere, and lengths and versions that are wrong.
fn lies(name: &str, tunnel: &Tunnel, packet: &Packet) -> Vec<Row> {
    let inner = bytes(packet);
    let frame = tunnel.around(&inner);
    let l3 = tunnel.link_length();
    let inside = frame.len() - inner.len();
    let mut rows = Vec::new();
    for length in l3..frame.len() {
        // Every header, and a few of the payload.
        if length > inside + 80 && length % 50 != 0 {
            continue;
        }
        let name = format!("{name}: cut after {length} bytes");
        let frame = frame[..length].to_vec();
        rows.push(untouched(name, frame, Verdict::PassMalformed));
    }
    let mut lie = |what: &str, change: &dyn Fn(&mut Vec<u8>), verdict: Verdict| {
        let mut frame = frame.clone();
        change(&mut frame);
        rows.push(untouched(format!("{name}: {what}"), frame, verdict));
    };
    let malformed = Verdict::PassMalformed;
    let is_outer_v4 = tunnel.source.is_ipv4();
    if is_outer_v4 {
        lie(
            "a wrong header checksum outside",
            &|frame| frame[l3 + 10] ^= 1,
            malformed,
        );
        lie("version 5 outside", &|frame| frame[l3] = 0x55, malformed);
        lie(
            "a header of 16 bytes outside",
            &|frame| frame[l3] = 0x44,
            malformed,
        );
    } else {
        lie("version 5 outside", &|frame| frame[l3] = 0x50, malformed);
    }
    let length_at = l3 + if is_outer_v4 { 2 } else { 4 };
    // The checksum is set right, so that only the length is wrong.
    let outer_length = |frame: &mut Vec<u8>, change: i16| {
        set_length(frame, length_at, change);
        if is_outer_v4 {
            seal(&mut frame[l3..l3 + 20]);
        }
    };
    lie(
        "the outer packet ends before the inner",
        &|frame| outer_length(frame, -1),
        malformed,
    );
    lie(
        "the outer packet ends after the frame",
        &|frame| outer_length(frame, 1),
        malformed,
    );
    let is_inner_v4 = inner[0] >> 4 == 4;
    let at = inside + if is_inner_v4 { 2 } else { 4 };
    lie(
        "the inner packet ends after the outer",
        &|frame| set_length(frame, at, 1),
        malformed,
    );
    if is_inner_v4 {
        lie(
            "an inner header of 16 bytes",
            &|frame| frame[inside] = 0x44,
            malformed,
        );
        let shorter = |frame: &mut Vec<u8>| frame[at..at + 2].copy_from_slice(&[0, 19]);
        lie(
            "an inner packet shorter than its header",
            &shorter,
            malformed,
        );
    }
    match tunnel.kind {
        Kind::IpIp => {
            let other = if is_inner_v4 { 0x60 } else { 0x45 };
            lie(
                "the other version inside",
                &|frame| frame[inside] = other,
                malformed,
            );
        }
        Kind::Gue0(_) => {
            let other = if is_inner_v4 { 0x60 } else { 0x45 };
            lie(
                "the other version inside",
                &|frame| frame[inside] = other,
                malformed,
            );
        }
        Kind::Gue1 => {
            for version in [0x55, 0x75] {
                let what = format!("{version:02x} inside");
                let change = move |frame: &mut Vec<u8>| frame[inside] = version;
                lie(&what, &change, Verdict::PassUnknownVariant);
            }
        }
    }
    if tunnel.kind != Kind::IpIp {
        let udp = l3 + tunnel.header_length();
        let (port, length) = (udp + 3, udp + 4);
        lie(
            "another port",
            &|frame| frame[port] ^= 1,
            Verdict::PassNotTunnelled,
        );
        lie(
            "the datagram ends after the packet",
            &|frame| set_length(frame, length, 1),
            malformed,
        );
        lie(
            "the datagram ends early",
            &|frame| set_length(frame, length, -1),
            malformed,
        );
        let nothing = |frame: &mut Vec<u8>| frame[length..length + 2].copy_from_slice(&[0, 8]);
        lie("an empty datagram", &nothing, malformed);
    }
    if let Kind::Gue0(words) = tunnel.kind {
        let gue = l3 + tunnel.header_length() + 8;
        let unknown = Verdict::PassUnknownVariant;
        lie(
            "a control message",
            &|frame| frame[gue] |= 0x20,
            Verdict::PassControl,
        );
        lie("variant 2", &|frame| frame[gue] |= 0x80, unknown);
        lie("variant 3", &|frame| frame[gue] |= 0xc0, unknown);
        lie("TCP inside", &|frame| frame[gue + 1] = 6, unknown);
        if words == 0 {
            // What is read as the packet inside is its payload.
            lie(
                "fields that are not there",
                &|frame| frame[gue] |= 31,
                malformed,
            );
        }
    }
    rows
}

fn set_length(frame: &mut [u8], at: usize, change: i16) {
    let length = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let new = length.wrapping_add_signed(change);
    frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

/// Sets the checksum of an IPv4 header.
fn seal(header: &mut [u8]) {
    header[10..12].fill(0);
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// Who may tunnel, and for whom.
fn who(name: &str, tunnel: &Tunnel, packet: &Packet) -> Vec<Row> {
    let inner = bytes(packet);
    let frame = tunnel.around(&inner);
    let out = tunnel.taken_out(&inner);
    let from = |sources: &[(IpAddr, u8)]| rules().from_sources(sources.iter().copied());
    let v4_net = (IpAddr::from([172, 16, 0, 0]), 16);
    let v6_net = (IpAddr::from([0x100, 0, 0, 0, 0, 0, 0, 0]), 64);
    let is_v4 = tunnel.source.is_ipv4();
    let own_net = if is_v4 { v4_net } else { v6_net };
    let all_of_the_other: (IpAddr, u8) = if is_v4 {
        ([0; 8].into(), 0)
    } else {
        ([0; 4].into(), 0)
    };
    let all_of_this: (IpAddr, u8) = if is_v4 {
        ([0; 4].into(), 0)
    } else {
        ([0; 8].into(), 0)
    };
    let whole = (tunnel.source, if is_v4 { 32 } else { 128 });
    let neighbour: (IpAddr, u8) = if is_v4 {
        ([172, 17, 0, 0].into(), 16)
    } else {
        ([0x100, 0, 0, 1, 0, 0, 0, 0].into(), 64)
    };
    let mut rows = Vec::new();
    for (what, rules, is_allowed) in [
        ("a network", from(&[v4_net, v6_net]), true),
        ("its address", from(&[neighbour, whole]), true),
        ("all of its family", from(&[all_of_this]), true),
        (
            "a longer prefix that is another's",
            from(&[own_net, neighbour]),
            true,
        ),
        ("another network", from(&[neighbour]), false),
        ("all of the other family", from(&[all_of_the_other]), false),
    ] {
        rows.push(Row {
            name: format!("{name}: from {what}"),
            rules,
            frame: frame.clone(),
            verdict: if is_allowed {
                Verdict::Decapsulated
            } else {
                Verdict::DropSourceNotAllowed
            },
            out: is_allowed.then(|| out.clone()),
        });
    }
    let not_for_vip = |what: &str, rules: HostRules| Row {
        rules,
        ..untouched(
            format!("{name}: {what}"),
            frame.clone(),
            Verdict::PassNotForVip,
        )
    };
    let elsewhere = HostRules::for_vips([IpAddr::from([203, 0, 113, 11])]);
    rows.push(not_for_vip("for another address", elsewhere.clone()));
    // The source does not matter then.
    let elsewhere = elsewhere.from_sources([neighbour]);
    rows.push(not_for_vip(
        "for another address, from elsewhere",
        elsewhere,
    ));
    let mut off = rules();
    off.settings.accepts &= if tunnel.kind == Kind::IpIp { !1 } else { !2 };
    rows.push(Row {
        rules: off,
        ..untouched(
            format!("{name}: a kind that is not taken"),
            frame.clone(),
            Verdict::PassNotTunnelled,
        )
    });
    rows
}

/// A tunnel in a tunnel in a tunnel, each for the VIP: each pass takes one off.
fn only_one_layer(name: &str, tunnel: &Tunnel, packet: &Packet) -> Vec<Row> {
    let mut to_vip = Tunnel::new(tunnel.kind, packet.source.is_ipv4());
    to_vip.destination = packet.destination.ip();
    let inner = bytes(packet);
    let twice = to_vip.around(&inner)[14..].to_vec();
    let thrice = to_vip.around(&twice)[14..].to_vec();
    vec![
        taken_out(format!("{name}: a tunnel in it stays"), tunnel, &twice),
        taken_out(format!("{name}: two tunnels in it stay"), tunnel, &thrice),
    ]
}

/// What is no tunnel.
fn others() -> Vec<Row> {
    let passes =
        |name: &str, frame: Vec<u8>| untouched(name.to_owned(), frame, Verdict::PassNotTunnelled);
    let mut rows = Vec::new();
    for is_v4 in [true, false] {
        rows.push(passes("TCP for a VIP", packet(is_v4).bytes()));
        rows.push(passes("TCP behind a tag", packet(is_v4).tagged(5).bytes()));
        let Packet {
            source,
            destination,
            ..
        } = packet(is_v4);
        rows.push(passes(
            "UDP for a VIP",
            Packet::udp(source, destination).bytes(),
        ));
    }
    let mut arp = packet(true).bytes();
    arp[12..14].copy_from_slice(&ethertype::ARP.to_be_bytes());
    rows.push(passes("no IP", arp));
    // A cut tag.
    let mut tagged = packet(true).tagged(5).bytes();
    tagged.truncate(16);
    rows.push(passes("a tag without anything", tagged));
    rows
}
