//! Files of packets: pcap and pcapng.

use std::io::{self, Read};

use anyhow::{Context as _, Result, bail};
use pcap_file::{
    DataLink, PcapError,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};

/// The magic number that a pcapng file begins with.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The first Ethernet frames of a file, not more than `limit`.
///
/// # Errors
/// When it is no such file, is damaged before as many were found, or holds something else.
pub(super) fn frames(mut file: impl Read, limit: usize) -> Result<Vec<Vec<u8>>> {
    let mut magic = [0; 4];
    file.read_exact(&mut magic)
        .context("it is neither pcap nor pcapng: it has less than four bytes")?;
    let whole = io::Cursor::new(magic).chain(file);
    let mut frames = Vec::new();
    if magic == PCAPNG {
        let mut reader = PcapNgReader::new(whole).map_err(explained)?;
        while frames.len() < limit
            && let Some(block) = reader.next_block()
        {
            let block = block.map_err(explained)?;
            let (interface, frame) = if let Block::EnhancedPacket(packet) = block {
                (packet.interface_id, packet.data.into_owned())
            } else if let Block::SimplePacket(packet) = block {
                (0, packet.data.into_owned())
            } else {
                continue;
            };
            match reader.interfaces().get(interface as usize) {
                Some(described) if described.linktype == DataLink::ETHERNET => frames.push(frame),
                Some(described) => bail!("it holds {:?}, not Ethernet frames", described.linktype),
                None => bail!("it holds a packet of an interface that it does not describe"),
            }
        }
        return Ok(frames);
    }
    let mut reader = PcapReader::new(whole).map_err(explained)?;
    let link = reader.header().datalink;
    if link != DataLink::ETHERNET {
        bail!("it holds {link:?}, not Ethernet frames");
    }
    while frames.len() < limit
        && let Some(packet) = reader.next_packet()
    {
        frames.push(packet.map_err(explained)?.data.into_owned());
    }
    Ok(frames)
}

fn explained(error: PcapError) -> anyhow::Error {
    anyhow::Error::new(error).context("it is no whole pcap or pcapng file")
}
