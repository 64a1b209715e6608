//! Answers to TCP SYN packets that cost no memory: SYN-ACKs whose sequence number is a cookie.
//!
//! The cookie is the kernel's. What comes back is checked by nftables' `synproxy`, so the answer has
//! to be the one that it would have given: a window of nothing until the service is connected, and
//! what the other end offered kept in the lower bits of the timestamp, because nothing else is kept.

use sluice_abi::limits::Limits;

use crate::checks::Brief;
use crate::parse::{ACK, SYN, TCP};

/// Room for TCP options: the largest offset of one, and what is read from there.
pub const OPTIONS_MAX: usize = OFFSET_MASK as usize + 9;
/// Bits of an offset of an option. There are 40 bytes of them at most.
pub const OFFSET_MASK: u32 = 63;
/// Options that are looked at: clients send eight at most, padding included.
const OPTIONS_READ: u32 = 10;
/// Words of an IP header, at most.
pub const IP_WORDS: usize = 10;
/// Words of the TCP header of an answer, at most.
pub const TCP_WORDS: usize = 10;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK: u8 = 4;
const TIMESTAMPS: u8 = 8;

/// Bytes of the TCP header of an answer: with the maximum segment size alone, and with all options.
const PLAIN: u32 = 24;
const STAMPED: u32 = 40;
/// The bits of a timestamp that hold what was offered: 4 of the window scale, SACK, ECN.
const STAMP_MASK: u32 = 0x3f;
const STAMP_NO_SCALE: u32 = 0xf;
const STAMP_SACK: u32 = 1 << 4;
/// The largest window scale (RFC 7323).
const SCALE_MAX: u8 = 14;

/// What the sender of a SYN packet offers, in words of their own so that a program keeps them where
/// its verifier does not follow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Offered {
    /// Maximum segment size; 0 is none.
    mss: u32,
    /// Window scale and 1; 0 is none.
    scale: u32,
    /// Whether selective acknowledgements are offered.
    sack: u32,
    /// Whether there are timestamps.
    stamps: u32,
    /// The sender's timestamp.
    stamp: u32,
}

impl Offered {
    /// Reads the first `len` bytes of `options`. What is malformed ends them. `forget` returns what it
    /// is given; a program makes its verifier forget what that was.
    #[inline(always)]
    pub fn read(&mut self, options: &[u8; OPTIONS_MAX], len: u32, forget: impl Fn(u32) -> u32) {
        let byte = |at: u32| options[at as usize];
        let word =
            |at: u32| u32::from_be_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
        // A zero that the compiler knows would make these one call of `memset`.
        let zero = forget(0);
        (self.mss, self.scale, self.sack, self.stamps) = (zero, zero, zero, zero);
        let (mut at, mut left) = (0, OPTIONS_READ);
        while left > 0 {
            left -= 1;
            // The verifier has to see the bound; up to 6.2 it learns none from a comparison with `len`.
            at = forget(at) & OFFSET_MASK;
            if at >= len || byte(at) == END {
                return;
            }
            if byte(at) == NOP {
                at += 1;
                continue;
            }
            let size = u32::from(byte(at + 1));
            if size < 2 || at + size > len {
                return;
            }
            match (byte(at), size) {
                (MSS, 4) => self.mss = word(at) & 0xffff,
                (WINDOW_SCALE, 3) => {
                    let scale = byte(at + 2);
                    self.scale = u32::from(if scale > SCALE_MAX { SCALE_MAX } else { scale }) + 1;
                }
                (SACK, 2) => self.sack = 1,
                (TIMESTAMPS, 10) => (self.stamps, self.stamp) = (1, word(at + 2)),
                _ => {}
            }
            at += size;
        }
    }
}

/// Headers being written, as words of the wire.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Draft {
    /// The IP header.
    pub ip: [u32; IP_WORDS],
    /// The TCP header.
    pub tcp: [u32; TCP_WORDS],
}

impl Draft {
    /// Bytes of the TCP header of a [`Draft::question`].
    pub const QUESTION: u32 = PLAIN;

    /// The headers that the kernel makes a cookie from: addresses, ports, number and segment size of
    /// a SYN packet, nothing else.
    #[inline(always)]
    pub const fn question(&mut self, brief: &Brief, number: u32, offered: &Offered) {
        let ([.., src], [.., dst]) = (brief.src.words(), brief.dst.words());
        if brief.is_v4() {
            (self.ip[3], self.ip[4]) = (src, dst);
        } else {
            self.ends(brief.src.words(), brief.dst.words());
        }
        self.tcp[0] = ports(brief.sport, brief.dport);
        self.tcp[1] = number.to_be();
        self.tcp[2] = 0;
        self.tcp[3] = flags(PLAIN, SYN);
        self.tcp[4] = 0;
        // Without the option the kernel takes the default of the protocol.
        self.tcp[5] = if offered.mss == 0 { u32::MAX / 0xff } else { segment(offered.mss) };
    }

    /// The answer with this cookie; returns the bytes of its TCP header.
    #[inline(always)]
    pub fn answer(
        &mut self,
        brief: &Brief,
        number: u32,
        cookie: u32,
        offered: &Offered,
        limits: &Limits,
        now_ms: u32,
    ) -> u32 {
        let len = if offered.stamps == 0 { PLAIN } else { STAMPED };
        let ([.., src], [.., dst]) = (brief.src.words(), brief.dst.words());
        let (mss, mut sum) = if brief.is_v4() {
            self.ip[0] = (0x4500_0000 | (20 + len)).to_be();
            self.ip[1] = 0x4000_u32.to_be();
            self.ip[2] = (64 << 24 | u32::from(TCP) << 16).to_be();
            (self.ip[3], self.ip[4]) = (dst, src);
            let check = folded(
                halves(self.ip[0])
                    + halves(self.ip[1])
                    + halves(self.ip[2])
                    + halves(src)
                    + halves(dst),
            );
            self.ip[2] |= check.to_be();
            (limits.answer_mss, halves(src) + halves(dst))
        } else {
            self.ip[0] = (6_u32 << 28).to_be();
            self.ip[1] = (len << 16 | u32::from(TCP) << 8 | 64).to_be();
            self.ends(brief.dst.words(), brief.src.words());
            let ends = all(brief.src.words()) + all(brief.dst.words());
            // The header is 20 bytes longer.
            (limits.answer_mss - 20, ends)
        };
        sum += u32::from(TCP) + len;
        self.tcp[0] = ports(brief.dport, brief.sport);
        self.tcp[1] = cookie.to_be();
        self.tcp[2] = number.wrapping_add(1).to_be();
        self.tcp[3] = flags(len, SYN | ACK);
        self.tcp[5] = segment(mss);
        sum += halves(self.tcp[0]) + halves(self.tcp[1]) + halves(self.tcp[2]);
        sum += halves(self.tcp[3]) + halves(self.tcp[5]);
        if offered.stamps != 0 {
            let scale = if offered.scale == 0 { STAMP_NO_SCALE } else { offered.scale - 1 };
            let sack = if offered.sack == 0 { 0 } else { STAMP_SACK };
            let kind = u32::from(TIMESTAMPS) << 8 | 0xa;
            let permitted = u32::from(SACK) << 24 | 2 << 16;
            let none = u32::from(NOP) << 24 | u32::from(NOP) << 16;
            self.tcp[6] = (kind | if offered.sack == 0 { none } else { permitted }).to_be();
            self.tcp[7] = (now_ms & !STAMP_MASK | sack | scale).to_be();
            self.tcp[8] = offered.stamp.to_be();
            self.tcp[9] = if offered.scale == 0 {
                none | none >> 16
            } else {
                u32::from(NOP) << 24
                    | u32::from(WINDOW_SCALE) << 16
                    | 3 << 8
                    | limits.answer_scale & 0xf
            }
            .to_be();
            sum += halves(self.tcp[6]) + halves(self.tcp[7]) + halves(self.tcp[8]);
            sum += halves(self.tcp[9]);
        }
        self.tcp[4] = (folded(sum) << 16).to_be();
        len
    }

    #[inline(always)]
    const fn ends(&mut self, src: [u32; 4], dst: [u32; 4]) {
        [self.ip[2], self.ip[3], self.ip[4], self.ip[5]] = src;
        [self.ip[6], self.ip[7], self.ip[8], self.ip[9]] = dst;
    }
}

/// A word of two ports, both in network byte order.
#[inline(always)]
const fn ports(src: u16, dst: u16) -> u32 {
    ((u16::from_be(src) as u32) << 16 | u16::from_be(dst) as u32).to_be()
}

/// The word of header length, flags, and a window of nothing.
#[inline(always)]
const fn flags(len: u32, flags: u8) -> u32 {
    (len << 26 | (flags as u32) << 16).to_be()
}

#[inline(always)]
const fn segment(mss: u32) -> u32 {
    ((MSS as u32) << 24 | 4 << 16 | mss & 0xffff).to_be()
}

/// Both halves of a word of the wire, added.
#[inline(always)]
const fn halves(word: u32) -> u32 {
    let word = u32::from_be(word);
    (word >> 16) + (word & 0xffff)
}

/// The same of the words of an address.
#[inline(always)]
const fn all(words: [u32; 4]) -> u32 {
    halves(words[0]) + halves(words[1]) + halves(words[2]) + halves(words[3])
}

/// The checksum of what adds up to `sum`.
#[inline(always)]
const fn folded(sum: u32) -> u32 {
    let once = (sum >> 16) + (sum & 0xffff);
    !((once >> 16) + once) & 0xffff
}

#[cfg(test)]
mod tests;
