//! The pcapng format: sections of either byte order, several interfaces, any time resolution.

use std::io::Read;

use super::source::{Order, Source};
use super::{PACKET_MAX, Record, ReplayError};

/// Type of the block that starts a section; reads the same in both byte orders.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Tells the byte order of a section.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Most interfaces in a section.
const INTERFACES_MAX: usize = 4096;
/// Longest interface description, comments included.
const DESCRIPTION_MAX: u32 = 64 * 1024;

const END_OF_OPTIONS: u16 = 0;
const RESOLUTION: u16 = 9;
const TIME_OFFSET: u16 = 14;

/// A pcapng file.
pub(super) struct Reader<R> {
    source: Source<R>,
    order: Order,
    interfaces: Vec<Interface>,
    /// Whether the type of the next block was read: that of the first tells the format.
    is_type_read: bool,
}

#[derive(Clone, Copy)]
struct Interface {
    link: u32,
    /// Most bytes of a packet that are kept; 0 means all.
    snap_len: u32,
    /// Units of time in a second.
    units: u64,
    /// Seconds to add.
    offset_s: i64,
}

impl Interface {
    fn time(self, high: u32, low: u32) -> (u64, u32) {
        let stamp = u64::from(high) << 32 | u64::from(low);
        let seconds = (stamp / self.units).saturating_add_signed(self.offset_s);
        let rest = u128::from(stamp % self.units) * 1_000_000_000 / u128::from(self.units);
        (seconds, rest as u32)
    }
}

impl<R: Read> Reader<R> {
    /// A file whose first four bytes, a block type, were read.
    pub(super) const fn new(source: Source<R>) -> Self {
        Self { source, order: Order::Little, interfaces: Vec::new(), is_type_read: true }
    }

    /// The next packet, whose bytes replace `data`.
    pub(super) fn next(&mut self, data: &mut Vec<u8>) -> Result<Option<Record>, ReplayError> {
        loop {
            let mut kind = [0; 4];
            let start;
            if core::mem::take(&mut self.is_type_read) {
                start = 0;
                kind = SECTION_HEADER.to_be_bytes();
            } else {
                start = self.source.offset();
                if !self.source.fill_or_end(&mut kind, "the header of a block")? {
                    return Ok(None);
                }
            }
            let kind = self.order.u32(kind);
            let mut len = [0; 4];
            self.source.fill(&mut len, "the header of a block")?;
            if kind == SECTION_HEADER {
                self.section(start, len)?;
                continue;
            }
            let block = Block { start, len: self.order.u32(len) };
            let body = block.body(12)?;
            let record = match kind {
                INTERFACE_DESCRIPTION => {
                    self.interface(block, body)?;
                    None
                }
                ENHANCED_PACKET | PACKET => Some(self.packet(block, body, kind, data)?),
                SIMPLE_PACKET => Some(self.simple_packet(block, body, data)?),
                _ => {
                    self.source.skip(u64::from(body), "a block")?;
                    None
                }
            };
            self.end(block)?;
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// The length behind a block, which must repeat the one before.
    fn end(&mut self, block: Block) -> Result<(), ReplayError> {
        let mut len = [0; 4];
        self.source.fill(&mut len, "the end of a block")?;
        if self.order.u32(len) == block.len {
            Ok(())
        } else {
            Err(block.invalid("the two lengths of a block differ"))
        }
    }

    fn section(&mut self, start: u64, len: [u8; 4]) -> Result<(), ReplayError> {
        let mut fixed = [0; 16];
        self.source.fill(&mut fixed, "a section header")?;
        let [magic, ..] = Order::Big.words::<1>(&fixed);
        self.order = match magic {
            BYTE_ORDER => Order::Big,
            _ if magic.swap_bytes() == BYTE_ORDER => Order::Little,
            _ => {
                let what = "a section header without the byte-order mark";
                return Err(ReplayError::Invalid { offset: start, what });
            }
        };
        let block = Block { start, len: self.order.u32(len) };
        if self.order.u16([fixed[4], fixed[5]]) != 1 {
            return Err(block.invalid("a section of another version than 1"));
        }
        let options = block.body(28)?;
        self.source.skip(u64::from(options), "a section header")?;
        self.interfaces.clear();
        self.end(block)
    }

    fn interface(&mut self, block: Block, body: u32) -> Result<(), ReplayError> {
        if !(8..=DESCRIPTION_MAX).contains(&body) {
            return Err(block.invalid("an interface description of impossible length"));
        }
        if self.interfaces.len() >= INTERFACES_MAX {
            return Err(block.invalid("more than 4096 interfaces"));
        }
        let mut bytes = vec![0; body as usize];
        self.source.fill(&mut bytes, "an interface description")?;
        let [_, snap_len] = self.order.words(&bytes);
        let link = u32::from(self.order.u16([bytes[0], bytes[1]]));
        let mut interface = Interface { link, snap_len, units: 1_000_000, offset_s: 0 };
        let mut rest = &bytes[8..];
        while let Some((&[a, b, c, d], tail)) = rest.split_first_chunk() {
            let (option, len) = (self.order.u16([a, b]), usize::from(self.order.u16([c, d])));
            let Some(value) = tail.get(..len).filter(|_| option != END_OF_OPTIONS) else { break };
            match (option, value) {
                (RESOLUTION, &[resolution]) => {
                    let exponent = u32::from(resolution & 0x7f);
                    let base = if resolution & 0x80 == 0 { 10_u64 } else { 2 };
                    interface.units = base
                        .checked_pow(exponent)
                        .ok_or_else(|| block.invalid("an impossible time resolution"))?;
                }
                (TIME_OFFSET, value) if value.len() == 8 => {
                    let [first, second] = self.order.words(value);
                    let (high, low) = match self.order {
                        Order::Big => (first, second),
                        Order::Little => (second, first),
                    };
                    interface.offset_s = (u64::from(high) << 32 | u64::from(low)).cast_signed();
                }
                _ => {}
            }
            rest = tail.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        self.interfaces.push(interface);
        Ok(())
    }

    fn packet(
        &mut self,
        block: Block,
        body: u32,
        kind: u32,
        data: &mut Vec<u8>,
    ) -> Result<Record, ReplayError> {
        let mut fixed = [0; 20];
        let Some(room) = body.checked_sub(fixed.len() as u32) else {
            return Err(block.invalid("a packet block shorter than its fields"));
        };
        self.source.fill(&mut fixed, "a packet block")?;
        let [number, high, low, len, original_len] = self.order.words(&fixed);
        let number = if kind == PACKET {
            u32::from(self.order.u16([fixed[0], fixed[1]])) // the obsolete block
        } else {
            number
        };
        let Some(interface) = self.interfaces.get(number as usize).copied() else {
            return Err(block.invalid("a packet of an interface that was not described"));
        };
        if len > room {
            return Err(block.invalid("a packet longer than its block"));
        }
        self.data(block, len, room, data)?;
        let time = Some(interface.time(high, low));
        Ok(Record { time, link: interface.link, original_len })
    }

    fn simple_packet(
        &mut self,
        block: Block,
        body: u32,
        data: &mut Vec<u8>,
    ) -> Result<Record, ReplayError> {
        let mut fixed = [0; 4];
        let Some(room) = body.checked_sub(fixed.len() as u32) else {
            return Err(block.invalid("a packet block shorter than its fields"));
        };
        self.source.fill(&mut fixed, "a packet block")?;
        let original_len = self.order.u32(fixed);
        let Some(interface) = self.interfaces.first().copied() else {
            return Err(block.invalid("a packet of an interface that was not described"));
        };
        // The block does not say how much was kept: as much as the interface keeps.
        let snap_len = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
        self.data(block, original_len.min(snap_len).min(room), room, data)?;
        Ok(Record { time: None, link: interface.link, original_len })
    }

    /// Reads `len` bytes of a packet and skips what is left of `room`.
    fn data(
        &mut self,
        block: Block,
        len: u32,
        room: u32,
        data: &mut Vec<u8>,
    ) -> Result<(), ReplayError> {
        if len > PACKET_MAX {
            return Err(block.invalid("a packet of more than 256 KiB"));
        }
        data.resize(len as usize, 0);
        self.source.fill(data, "a packet")?;
        self.source.skip(u64::from(room - len), "a packet block")
    }
}

/// Where a block starts and how long it is.
#[derive(Clone, Copy)]
struct Block {
    start: u64,
    len: u32,
}

impl Block {
    const fn invalid(self, what: &'static str) -> ReplayError {
        ReplayError::Invalid { offset: self.start, what }
    }

    /// What is left of the block behind its first and before its last fields, `fixed` bytes.
    const fn body(self, fixed: u32) -> Result<u32, ReplayError> {
        match self.len.checked_sub(fixed) {
            Some(body) if self.len.is_multiple_of(4) => Ok(body),
            _ => Err(self.invalid("a block of impossible length")),
        }
    }
}
