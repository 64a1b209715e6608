//! Messages of `nfnetlink_queue`: packets in, verdicts out. Pure: any bytes are read without a
//! panic, and nothing is copied.

use crate::config::MarkMask;
use crate::sys::netlink::{Builder, Message, flag};

/// The nfnetlink subsystem, in the upper byte of a message type.
const SUBSYSTEM: u16 = 3 << 8;
const PACKET: u16 = SUBSYSTEM;
const VERDICT: u16 = SUBSYSTEM | 1;
const VERDICT_BATCH: u16 = SUBSYSTEM | 3;

/// Bytes of `struct nfgenmsg`: family, version, queue number in network order.
const FAMILY_HEADER: usize = 4;

/// Attributes of packets and verdicts.
mod nfqa {
    pub(super) const PACKET_HDR: u16 = 1;
    pub(super) const VERDICT_HDR: u16 = 2;
    pub(super) const MARK: u16 = 3;
    pub(super) const TIMESTAMP: u16 = 4;
    pub(super) const INDEV: u16 = 5;
    pub(super) const OUTDEV: u16 = 6;
    pub(super) const HWADDR: u16 = 9;
    pub(super) const PAYLOAD: u16 = 10;
    pub(super) const CAP_LEN: u16 = 13;
    pub(super) const SKB_INFO: u16 = 14;
}

/// Bits of `NFQA_SKB_INFO`.
const SKB_CHECKSUM_MISSING: u32 = 1;
const SKB_GSO: u32 = 2;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// The chain that queued the packet sees it again.
const NF_REPEAT: u32 = 4;

/// A packet that waits for its verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet<'a> {
    /// Number of the queue.
    pub queue: u16,
    /// Number in the queue.
    pub id: u32,
    /// Ethernet type: 0x0800 for IPv4, 0x86dd for IPv6.
    pub hw_proto: u16,
    /// The bytes from the IP header on.
    pub l3: &'a [u8],
    /// Bytes of the packet; more than `l3` has when the copy was cut.
    pub wire_len: usize,
    /// The packet's mark, foreign bits included.
    pub mark: u32,
    /// Several segments in one (GSO or GRO): longer than the link takes.
    pub gso: bool,
    /// The checksum is left to the device: it is not to be checked.
    pub checksum_missing: bool,
    /// Index of the interface it came by, 0 when there is none.
    pub indev: u32,
    /// Index of the interface it leaves by, 0 when there is none.
    pub outdev: u32,
    /// Hardware address of its sender, on Ethernet.
    pub mac: Option<[u8; 6]>,
    /// When it came to this machine, in microseconds since 1970. Only where something on the router
    /// wants such times, a capture for one.
    pub arrived_us: Option<u64>,
}

impl Packet<'_> {
    /// Whether bytes are missing at the end of `l3`.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.wire_len > self.l3.len()
    }
}

/// What a message of the queue is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// A packet whose message makes no sense beyond its number.
    Malformed {
        /// Number of the queue.
        queue: u16,
        /// Number in the queue.
        id: u32,
    },
    /// A packet message without a number; nothing can be answered.
    Nameless,
    /// The kernel refused a verdict: error number.
    Refused(i32),
    /// Something else.
    Other,
}

/// Reads one message.
#[must_use]
pub fn read<'a>(message: &Message<'a>) -> Arrival<'a> {
    if let Some(refusal) = message.refusal() {
        return if refusal.errno == 0 { Arrival::Other } else { Arrival::Refused(refusal.errno) };
    }
    if message.kind != PACKET {
        return Arrival::Other;
    }
    let [_family, _version, high, low, ..] = *message.body else { return Arrival::Nameless };
    let queue = u16::from_be_bytes([high, low]);
    let (mut header, mut payload, mut cap_len) = (None, None, None);
    let (mut mac, mut arrived_us) = (None, None);
    let (mut mark, mut skb_info, mut indev, mut outdev) = (Some(0), Some(0), Some(0), Some(0));
    for attr in message.attrs(FAMILY_HEADER) {
        match attr.kind {
            nfqa::PACKET_HDR => header = header_of(attr.value),
            nfqa::PAYLOAD => payload = Some(attr.value),
            nfqa::CAP_LEN => cap_len = attr.be32(),
            nfqa::MARK => mark = attr.be32(),
            nfqa::SKB_INFO => skb_info = attr.be32(),
            nfqa::INDEV => indev = attr.be32(),
            nfqa::OUTDEV => outdev = attr.be32(),
            nfqa::HWADDR => mac = mac_of(attr.value),
            nfqa::TIMESTAMP => arrived_us = time_of(attr.value),
            _ => {}
        }
    }
    let Some((id, hw_proto)) = header else { return Arrival::Nameless };
    // A mark of another size is not taken for 0: the verdict would clear foreign bits.
    let (Some(l3), Some(mark), Some(skb_info), Some(indev), Some(outdev)) =
        (payload, mark, skb_info, indev, outdev)
    else {
        return Arrival::Malformed { queue, id };
    };
    let wire_len = cap_len.and_then(|len| usize::try_from(len).ok()).unwrap_or(0).max(l3.len());
    Arrival::Packet(Packet {
        queue,
        id,
        hw_proto,
        l3,
        wire_len,
        mark,
        gso: skb_info & SKB_GSO != 0,
        checksum_missing: skb_info & SKB_CHECKSUM_MISSING != 0,
        indev,
        outdev,
        mac,
        arrived_us,
    })
}

/// `struct nfqnl_msg_packet_hw`, which logged packets have too: length, padding, and room for eight
/// bytes.
pub(super) fn mac_of(value: &[u8]) -> Option<[u8; 6]> {
    let address = value.strip_prefix(&[0, 6])?.get(2..8)?;
    address.try_into().ok()
}

/// `struct nfqnl_msg_packet_timestamp`: seconds and microseconds.
fn time_of(value: &[u8]) -> Option<u64> {
    let (seconds, rest) = value.split_first_chunk::<8>()?;
    let micros = u64::from_be_bytes(*rest.first_chunk::<8>()?);
    u64::from_be_bytes(*seconds).checked_mul(1_000_000)?.checked_add(micros)
}

/// `struct nfqnl_msg_packet_hdr`: number, Ethernet type, hook.
fn header_of(value: &[u8]) -> Option<(u32, u16)> {
    let [a, b, c, d, high, low, _hook] = *value else { return None };
    Some((u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([high, low])))
}

/// The answer to one packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a packet without an answer waits until the queue is closed"]
pub enum Verdict {
    /// Goes on behind the chain that queued it; with a value that is not zero it meets that chain
    /// once more, which gives the value to its connection.
    Accept {
        /// Value for the claimed bits of its mark; `None` leaves the mark alone.
        mark: Option<u32>,
    },
    /// Gone.
    Drop,
}

/// Collects verdicts and writes as few messages as say the same.
///
/// The kernel answers a *batch* for every packet up to a number. So neighbours with the same answer
/// become one message, as long as verdicts are given in the order of arrival.
#[derive(Debug)]
pub struct Verdicts {
    marks: MarkMask,
    builder: Builder,
    run: Option<Run>,
    messages: u32,
}

/// Neighbours with the same answer.
#[derive(Clone, Copy, Debug)]
struct Run {
    queue: u16,
    last: u32,
    is_single: bool,
    action: u32,
    mark: Option<u32>,
}

/// Bytes of the longest verdict: header, family, verdict, mark.
const VERDICT_LEN: usize = 16 + FAMILY_HEADER + 12 + 8;

impl Verdicts {
    /// An empty collection with room for `count` answers.
    #[must_use]
    pub fn new(marks: MarkMask, count: usize) -> Self {
        let builder = Builder::with_capacity(count * VERDICT_LEN);
        Self { marks, builder, run: None, messages: 0 }
    }

    /// Another one for the same marks.
    #[must_use]
    pub fn like(&self, count: usize) -> Self {
        Self::new(self.marks, count)
    }

    /// Adds the answer to a packet with the mark `old`.
    pub fn push(&mut self, queue: u16, id: u32, old: u32, verdict: Verdict) {
        let (action, mark) = match verdict {
            Verdict::Accept { mark: None } => (NF_ACCEPT, None),
            Verdict::Accept { mark: Some(0) } => {
                let new = self.marks.put(old, 0);
                // A mark that stays as it is need not be said, and does not end a run.
                (NF_ACCEPT, (new != old).then_some(new))
            }
            Verdict::Accept { mark: Some(value) } => {
                (NF_REPEAT, Some(self.marks.put(old, value | self.marks.answered())))
            }
            Verdict::Drop => (NF_DROP, None),
        };
        match &mut self.run {
            Some(run) if (run.queue, run.action, run.mark) == (queue, action, mark) => {
                run.last = id;
                run.is_single = false;
            }
            _ => {
                self.end_run();
                self.run = Some(Run { queue, last: id, is_single: true, action, mark });
            }
        }
    }

    /// Everything to send.
    pub fn finish(&mut self) -> &[u8] {
        self.end_run();
        self.builder.bytes()
    }

    /// Forgets what was sent and says how many messages it was.
    pub fn clear(&mut self) -> u32 {
        self.builder.clear();
        self.run = None;
        std::mem::take(&mut self.messages)
    }

    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let [high, low] = run.queue.to_be_bytes();
        // A single answer names its packet: it cannot touch another one.
        let kind = if run.is_single { VERDICT } else { VERDICT_BATCH };
        self.builder.message(kind, flag::REQUEST, 0, &[0, 0, high, low]);
        let mut header = [0; 8];
        header[..4].copy_from_slice(&run.action.to_be_bytes());
        header[4..].copy_from_slice(&run.last.to_be_bytes());
        self.builder.attr(nfqa::VERDICT_HDR, &header);
        if let Some(mark) = run.mark {
            self.builder.attr(nfqa::MARK, &mark.to_be_bytes());
        }
        self.messages += 1;
    }
}

/// One line of `/proc/net/netfilter/nfnetlink_queue`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KernelStats {
    /// Number of the queue.
    pub queue: u16,
    /// Port of the socket that listens.
    pub port: u32,
    /// Packets that wait for a verdict.
    pub waiting: u32,
    /// Packets dropped because the queue was full.
    pub dropped: u32,
    /// Packets dropped because the socket's buffer was full.
    pub user_dropped: u32,
    /// Packets queued so far, modulo 2³².
    pub total: u32,
}

impl KernelStats {
    /// Reads one line; `None` when it is not such a line.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let mut next = || fields.next()?.ok();
        let (queue, port, waiting) = (next()?, next()?, next()?);
        let (_copy_mode, _copy_range) = (next()?, next()?);
        let (dropped, user_dropped, total) = (next()?, next()?, next()?);
        let queue = queue.try_into().ok()?;
        Some(Self { queue, port, waiting, dropped, user_dropped, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::Messages;

    fn marks() -> MarkMask {
        MarkMask::try_from(0x0700_0000).unwrap()
    }

    /// A packet message as the kernel writes it.
    fn packet(payload: &[u8], change: impl FnOnce(&mut Builder)) -> Vec<u8> {
        let mut builder = Builder::default();
        builder.message(PACKET, 0, 0, &[2, 0, 0, 9]);
        builder.attr(nfqa::PACKET_HDR, &[0, 0, 1, 2, 0x08, 0x00, 2]);
        builder.attr(nfqa::INDEV, &3_u32.to_be_bytes());
        builder.attr(nfqa::OUTDEV, &4_u32.to_be_bytes());
        change(&mut builder);
        builder.attr(nfqa::PAYLOAD, payload);
        builder.bytes().to_vec()
    }

    fn read_all(bytes: &[u8]) -> Arrival<'_> {
        let message = Messages::new(bytes).next().unwrap();
        read(&message)
    }

    #[test]
    fn a_packet_has_its_number_marks_interfaces_and_flags() {
        let bytes = packet(&[0x45, 1, 2], |builder| {
            builder.attr(nfqa::MARK, &0x0100_ff00_u32.to_be_bytes());
            builder.attr(nfqa::SKB_INFO, &(SKB_GSO | SKB_CHECKSUM_MISSING).to_be_bytes());
            builder.attr(nfqa::CAP_LEN, &9000_u32.to_be_bytes());
            builder.attr(nfqa::HWADDR, &[0, 6, 0, 0, 2, 0, 0x5e, 0x10, 0, 1, 0, 0]);
            builder.attr(nfqa::TIMESTAMP, &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        });
        let Arrival::Packet(packet) = read_all(&bytes) else { panic!("not a packet") };
        assert_eq!(
            packet,
            Packet {
                queue: 9,
                id: 0x102,
                hw_proto: 0x0800,
                l3: &[0x45, 1, 2],
                wire_len: 9000,
                mark: 0x0100_ff00,
                gso: true,
                checksum_missing: true,
                indev: 3,
                outdev: 4,
                mac: Some([2, 0, 0x5e, 0x10, 0, 1]),
                arrived_us: Some(2_000_007),
            }
        );
        assert!(packet.is_cut());
    }

    #[test]
    fn a_whole_packet_without_mark_is_neither_cut_nor_marked() {
        let bytes = packet(&[0x60; 40], |_| ());
        let Arrival::Packet(packet) = read_all(&bytes) else { panic!("not a packet") };
        assert_eq!((packet.mark, packet.wire_len, packet.gso), (0, 40, false));
        assert!(!packet.is_cut());
        assert_eq!(packet.mac, None);
        // InfiniBand has eight bytes, which are no address that a rule can have.
        for hw in [&[0, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0, 6, 0, 0, 1, 2, 3], &[]] {
            assert_eq!(mac_of(hw), None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_when_it_has_a_number() {
        let odd_mark = packet(&[0x45], |builder| builder.attr(nfqa::MARK, &[1, 2]));
        assert_eq!(read_all(&odd_mark), Arrival::Malformed { queue: 9, id: 0x102 });

        let mut no_payload = Builder::default();
        no_payload.message(PACKET, 0, 0, &[2, 0, 0, 9]);
        no_payload.attr(nfqa::PACKET_HDR, &[0, 0, 0, 7, 0x86, 0xdd, 2]);
        assert_eq!(read_all(no_payload.bytes()), Arrival::Malformed { queue: 9, id: 7 });

        let mut no_number = Builder::default();
        no_number.message(PACKET, 0, 0, &[2, 0, 0, 9]);
        no_number.attr(nfqa::PAYLOAD, &[0x45]);
        assert_eq!(read_all(no_number.bytes()), Arrival::Nameless);

        let mut no_family = Builder::default();
        no_family.message(PACKET, 0, 0, &[]);
        assert_eq!(read_all(no_family.bytes()), Arrival::Nameless);

        let mut refused = Builder::default();
        let mut body = (-libc::ENOENT).to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; 16]);
        refused.message(crate::sys::netlink::kind::ERROR, 0, 0, &body);
        assert_eq!(read_all(refused.bytes()), Arrival::Refused(libc::ENOENT));
    }

    #[test]
    fn random_attributes_never_panic_and_payloads_stay_inside() {
        let mut state = 0x1234_5678_u32;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let whole = packet(&[0x45; 20], |builder| builder.attr(nfqa::MARK, &[0; 4]));
        let mut packets = 0;
        for _ in 0..50_000 {
            let mut bytes = whole.clone();
            for _ in 0..=next() % 4 {
                let at = next() as usize % bytes.len();
                bytes[at] = next() as u8;
            }
            for message in Messages::new(&bytes) {
                if let Arrival::Packet(packet) = read(&message) {
                    packets += 1;
                    assert!(packet.l3.len() <= packet.wire_len && packet.l3.len() < bytes.len());
                }
            }
        }
        assert!(packets > 1000, "most changes leave a packet: {packets}");
    }

    /// The messages as (kind, queue, action, number, mark).
    fn sent(verdicts: &mut Verdicts) -> Vec<(u16, u16, u32, u32, Option<u32>)> {
        let messages = Messages::new(verdicts.finish());
        let read = messages.map(|message| {
            let queue = u16::from_be_bytes([message.body[2], message.body[3]]);
            let header = message.attrs(4).find(|attr| attr.kind == nfqa::VERDICT_HDR).unwrap();
            let word = |at: usize| u32::from_be_bytes(header.value[at..at + 4].try_into().unwrap());
            let mark = message.attrs(4).find(|attr| attr.kind == nfqa::MARK);
            (message.kind, queue, word(0), word(4), mark.and_then(|attr| attr.be32()))
        });
        let sent: Vec<_> = read.collect();
        assert_eq!(verdicts.clear() as usize, sent.len());
        sent
    }

    #[test]
    fn neighbours_with_the_same_answer_become_one_message() {
        let mut verdicts = Verdicts::new(marks(), 8);
        let pass = Verdict::Accept { mark: None };
        for id in 1..=3 {
            verdicts.push(9, id, 0xff00, pass);
        }
        verdicts.push(9, 4, 0, Verdict::Drop);
        verdicts.push(9, 5, 0, pass);
        assert_eq!(
            sent(&mut verdicts),
            [
                (VERDICT_BATCH, 9, NF_ACCEPT, 3, None),
                (VERDICT, 9, NF_DROP, 4, None),
                (VERDICT, 9, NF_ACCEPT, 5, None)
            ]
        );
        assert!(sent(&mut verdicts).is_empty(), "nothing is said twice");
    }

    #[test]
    fn a_marked_verdict_keeps_foreign_bits_and_a_batch_never_mixes_them() {
        let mut verdicts = Verdicts::new(marks(), 8);
        let trust = Verdict::Accept { mark: Some(marks().trusted()) };
        verdicts.push(9, 1, 0x0300_ff00, trust);
        verdicts.push(9, 2, 0x0000_ff00, trust); // the same after the claimed bits are replaced
        verdicts.push(9, 3, 0x0000_ee00, trust); // another foreign mark
        verdicts.push(8, 1, 0x0000_ee00, trust); // another queue
        assert_eq!(
            sent(&mut verdicts),
            [
                (VERDICT_BATCH, 9, NF_REPEAT, 2, Some(0x0500_ff00)),
                (VERDICT, 9, NF_REPEAT, 3, Some(0x0500_ee00)),
                (VERDICT, 8, NF_REPEAT, 1, Some(0x0500_ee00))
            ]
        );
    }

    #[test]
    fn a_mark_that_stays_as_it_is_does_not_end_a_run() {
        let mut verdicts = Verdicts::new(marks(), 8);
        verdicts.push(9, 1, 0xff00, Verdict::Accept { mark: None });
        verdicts.push(9, 2, 0xee00, Verdict::Accept { mark: Some(0) });
        assert_eq!(sent(&mut verdicts), [(VERDICT_BATCH, 9, NF_ACCEPT, 2, None)]);
        let trusted = marks().trusted();
        // To go back to inspection is a change.
        verdicts.push(9, 4, trusted | 1, Verdict::Accept { mark: Some(0) });
        assert_eq!(sent(&mut verdicts), [(VERDICT, 9, NF_ACCEPT, 4, Some(1))]);
    }

    #[test]
    fn a_full_collection_does_not_grow() {
        let mut verdicts = Verdicts::new(marks(), 4);
        let capacity = 4 * VERDICT_LEN;
        for id in 0..4 {
            verdicts.push(9, id, id << 4, Verdict::Accept { mark: Some(marks().trusted()) });
        }
        assert_eq!(verdicts.finish().len(), capacity);
    }

    #[test]
    fn the_kernels_figures_are_read_from_its_table() {
        let line = "    5 123456     2 2 65531     7     8       99  1";
        assert_eq!(
            KernelStats::from_line(line),
            Some(KernelStats {
                queue: 5,
                port: 123_456,
                waiting: 2,
                dropped: 7,
                user_dropped: 8,
                total: 99
            })
        );
        for line in ["", "5 1 2", "70000 1 2 2 65531 7 8 9 1", "a b c d e f g h"] {
            assert_eq!(KernelStats::from_line(line), None, "{line}");
        }
    }
}
