//! The pcap format: microseconds or nanoseconds, either byte order.

use std::io::Read;

use super::source::{Order, Source};
use super::{PACKET_MAX, Record, ReplayError, link};

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// A pcap file.
pub(super) struct Reader<R> {
    source: Source<R>,
    order: Order,
    /// Nanoseconds in the unit of the fraction.
    scale: u32,
    link: u32,
}

impl<R: Read> Reader<R> {
    /// A file whose `magic` number was read.
    pub(super) fn new(mut source: Source<R>, magic: [u8; 4]) -> Result<Self, ReplayError> {
        let (order, scale) = match (u32::from_be_bytes(magic), u32::from_le_bytes(magic)) {
            (MICROSECONDS, _) => (Order::Big, 1000),
            (_, MICROSECONDS) => (Order::Little, 1000),
            (NANOSECONDS, _) => (Order::Big, 1),
            (_, NANOSECONDS) => (Order::Little, 1),
            (magic, _) => return Err(ReplayError::NotACapture { magic }),
        };
        let mut header = [0; 20];
        source.fill(&mut header, "the file header")?;
        let [_version, _zone, _accuracy, _snap_len, link] = order.words(&header);
        // The upper bits tell how long a frame check sequence is.
        let link = link & 0xffff;
        if !link::is_known(link) {
            return Err(ReplayError::LinkType { link });
        }
        Ok(Self { source, order, scale, link })
    }

    /// The next packet, whose bytes replace `data`.
    pub(super) fn next(&mut self, data: &mut Vec<u8>) -> Result<Option<Record>, ReplayError> {
        let offset = self.source.offset();
        let mut header = [0; 16];
        if !self.source.fill_or_end(&mut header, "the header of a packet")? {
            return Ok(None);
        }
        let [seconds, fraction, len, original_len] = self.order.words(&header);
        if len > PACKET_MAX {
            let what = "a packet of more than 256 KiB";
            return Err(ReplayError::Invalid { offset, what });
        }
        data.resize(len as usize, 0);
        self.source.fill(data, "a packet")?;
        // More than a second in the fraction: broken writers exist, the packet is good.
        let nanoseconds = fraction.saturating_mul(self.scale).min(999_999_999);
        let time = Some((u64::from(seconds), nanoseconds));
        Ok(Some(Record { time, link: self.link, original_len }))
    }
}
