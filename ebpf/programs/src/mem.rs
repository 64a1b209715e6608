//! Packet bytes of XDP and TC programs.

use aya_ebpf::programs::{TcContext, XdpContext};
use bytemuck::AnyBitPattern;
use sluice_abi::attach::Link;
use sluice_datapath::packet::Packet;
use sluice_datapath::parse::{LONGEST, reach};

/// The linear part of a packet.
pub struct Linear {
    data: usize,
    end: usize,
}

impl Linear {
    /// The frame of an XDP program.
    #[inline(always)]
    #[must_use]
    pub fn of_frame(ctx: &XdpContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end() }
    }

    /// The linear part of a socket buffer, made long enough for the headers when it is not and the
    /// packet is (`bpf_skb_pull_data`, kernel 4.9): a driver may leave everything in fragments. Packets
    /// that were merged, or that a host sends in one piece, have exactly their headers there: to pull
    /// payload in beside them would copy the head of each, which is more than all else here costs.
    #[inline(always)]
    #[must_use]
    pub fn of_buffer(ctx: &TcContext, link: Link) -> Self {
        const HEADERS: u32 = LONGEST as u32;
        let packet = Self::anew(ctx);
        let linear = packet.bytes() as u32;
        if linear < HEADERS && linear < ctx.len() && (linear as usize) < reach(&packet, link) {
            // A failure leaves the packet as it was: it is counted as having no flow.
            let _ = ctx.pull_data(if ctx.len() < HEADERS { ctx.len() } else { HEADERS });
            return Self::anew(ctx);
        }
        packet
    }

    /// The linear part, of which the compiler knows nothing from before: what it still knew of an earlier
    /// look it would carry here on every way, and the verifier would walk each of them anew.
    #[inline(always)]
    #[must_use]
    pub fn anew(ctx: &TcContext) -> Self {
        // SAFETY: the context is valid while the program runs.
        let [data, end] = unsafe {
            [(&raw const (*ctx.skb.skb).data), &raw const (*ctx.skb.skb).data_end]
                .map(|field| field.read_volatile() as usize)
        };
        Self { data, end }
    }

    /// The linear part of a socket buffer as it is.
    #[inline(always)]
    #[must_use]
    pub fn as_it_is(ctx: &TcContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end() }
    }

    /// Bytes in the linear part.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        (self.end - self.data) as u64
    }
}

impl Packet for Linear {
    #[inline(always)]
    fn load<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        const { assert!(align_of::<T>() <= 2, "a packet is aligned to two bytes at most") }
        let start = self.data + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: `start..start + size_of::<T>()` lies inside the packet by the check above, any
        // bytes are a valid `T`, and `start` is even: packets start at an even address and all
        // headers that are parsed have an even length.
        Some(unsafe { core::ptr::read(start as *const T) })
    }
}
