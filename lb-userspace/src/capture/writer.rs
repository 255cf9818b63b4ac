//! The file: a section, the interfaces, a block for each packet, and now and then what was counted.

use std::{borrow::Cow, io, time::Duration};

use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        Block, PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption},
            section_header::{SectionHeaderBlock, SectionHeaderOption},
        },
    },
};

/// The option for the resolution of time stamps, and a billionth of a second.
const NANOSECONDS: u8 = 9;

/// A packet to write.
#[derive(Clone, Debug)]
pub struct CapturedPacket<'a> {
    /// Index among the interfaces of the file.
    pub interface: u32,
    /// When, since 1970.
    pub time: Duration,
    /// Bytes that the frame had.
    pub length: u32,
    /// The frame, as much as was held.
    pub bytes: &'a [u8],
    /// What is to be said of it, a line each.
    pub comments: Vec<String>,
}

/// What was counted since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets that came.
    pub seen: u64,
    /// Packets of them that could not be written because there were too many at a time.
    pub lost: u64,
    /// Packets that were written.
    pub captured: u64,
}

/// Writes a pcapng file, into memory.
pub struct Writer(PcapNgWriter<Vec<u8>>);

fn failed(error: PcapError) -> io::Error {
    io::Error::other(error)
}

impl Writer {
    /// Begins a file of frames from these interfaces.
    ///
    /// # Errors
    /// Never, as it writes into memory.
    pub fn new<'a>(interfaces: impl Iterator<Item = &'a str>, snap: u32) -> io::Result<Self> {
        let application = concat!("lb ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(
                application,
            ))],
            ..SectionHeaderBlock::default()
        };
        let mut writer = PcapNgWriter::with_section_header(Vec::new(), section).map_err(failed)?;
        for name in interfaces {
            let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, snap);
            interface.options = vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned())),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ];
            writer
                .write_block(&Block::InterfaceDescription(interface))
                .map_err(failed)?;
        }
        Ok(Self(writer))
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// When its interface is none of the file's.
    pub fn packet(&mut self, packet: &CapturedPacket<'_>) -> io::Result<()> {
        let options: Vec<EnhancedPacketOption<'_>> = packet
            .comments
            .iter()
            .map(|comment| EnhancedPacketOption::Comment(Cow::Borrowed(comment.as_str())))
            .collect();
        let block = EnhancedPacketBlock {
            interface_id: packet.interface,
            timestamp: packet.time,
            original_len: packet.length,
            data: Cow::Borrowed(packet.bytes),
            options,
        };
        let block = Block::EnhancedPacket(block);
        self.0.write_block(&block).map_err(failed)?;
        Ok(())
    }

    /// Adds what was counted on all interfaces.
    ///
    /// # Errors
    /// When the file has no interface.
    pub fn totals(&mut self, time: Duration, totals: Totals) -> io::Result<()> {
        let block = InterfaceStatisticsBlock {
            interface_id: 0,
            // The upper half of the number comes first, whatever the byte order.
            timestamp: (time.as_nanos() as u64).rotate_left(32),
            options: vec![
                InterfaceStatisticsOption::IsbIfRecv(totals.seen),
                InterfaceStatisticsOption::IsbOsDrop(totals.lost),
                InterfaceStatisticsOption::IsbFilterAccept(totals.captured),
            ],
        };
        let block = Block::InterfaceStatistics(block);
        self.0.write_block(&block).map_err(failed)?;
        Ok(())
    }

    /// Takes what was written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    #[test]
    fn a_reader_finds_what_was_written() {
        let mut writer = Writer::new(["eth0", "eth1"].into_iter(), 96).unwrap();
        let time = Duration::new(1_700_000_000, 123_456_789);
        let packet = CapturedPacket {
            interface: 1,
            time,
            length: 1500,
            bytes: &[7; 61],
            comments: vec!["drop_martian".to_owned()],
        };
        writer.packet(&packet).unwrap();
        let totals = Totals {
            seen: 3,
            lost: 1,
            captured: 1,
        };
        writer.totals(time, totals).unwrap();
        let file = writer.take();
        let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
        let mut kinds = Vec::new();
        while let Some(block) = reader.next_block() {
            let block = block.unwrap();
            if let Block::EnhancedPacket(read) = &block {
                assert_eq!(read.timestamp, time);
                assert_eq!(read.data.as_ref(), [7; 61]);
                assert_eq!((read.interface_id, read.original_len), (1, 1500));
                kinds.push('p');
            } else if let Block::InterfaceStatistics(read) = &block {
                let lost = InterfaceStatisticsOption::IsbOsDrop(1);
                assert!(read.options.contains(&lost));
                kinds.push('s');
            } else {
                assert!(matches!(block, Block::InterfaceDescription(_)), "{block:?}");
                kinds.push('i');
            }
        }
        assert_eq!(kinds, ['i', 'i', 'p', 's']);
        assert!(writer.take().is_empty());
    }

    #[test]
    fn a_packet_of_no_interface_is_an_error() {
        let mut writer = Writer::new(["eth0"].into_iter(), 96).unwrap();
        let packet = CapturedPacket {
            interface: 1,
            time: Duration::ZERO,
            length: 0,
            bytes: &[],
            comments: Vec::new(),
        };
        assert!(writer.packet(&packet).is_err());
    }
}
