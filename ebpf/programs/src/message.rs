//! DNS messages for the agent: copies of packets in a ring buffer (`bpf_ringbuf_output`, kernel 5.8).

use core::slice;

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use sluice_abi::attach::{Attachment, Link};
use sluice_abi::counter::Counter;
use sluice_abi::message::{COPY_MAX, Head, Message, RING};
use sluice_datapath::packet::Packet as _;

use crate::counters::count;
use crate::mem::Linear;

/// What the agent has not read yet. A program never waits for room there.
#[map]
pub static MESSAGES: RingBuf = RingBuf::pinned(RING, 0);

/// The message that is being made. TC programs run with softirqs off, one at a time on each CPU, so
/// all copies of them share it.
#[map]
pub static COPY: PerCpuArray<Message> = PerCpuArray::pinned(1, 0);

/// Tells of a packet that came in, with its IP header at `l3`: of one for this machine that has no
/// VLAN tag, for those are another device's.
#[inline(always)]
pub fn question(ctx: &TcContext, attachment: Attachment, l3: usize) {
    // SAFETY: the context is valid while the program runs.
    let is_for_us = unsafe { (*ctx.skb.skb).pkt_type } == 0; // PACKET_HOST
    if !is_for_us || is_tagged(ctx) {
        return;
    }
    let mac = match attachment.link() {
        Link::Ethernet | Link::Mtk => Linear::as_it_is(ctx).load::<[u16; 3]>(6),
        Link::Ip => None,
    };
    tell(ctx, attachment, l3, 0, mac);
}

/// Tells of a packet that leaves, in the same way.
#[inline(always)]
pub fn answer(ctx: &TcContext, attachment: Attachment, l3: usize) {
    if !is_tagged(ctx) {
        tell(ctx, attachment, l3, Head::OUT, None);
    }
}

#[inline(always)]
fn is_tagged(ctx: &TcContext) -> bool {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*ctx.skb.skb).vlan_present != 0 }
}

#[inline(always)]
fn tell(ctx: &TcContext, attachment: Attachment, l3: usize, way: u32, mac: Option<[u16; 3]>) {
    const LAST: u32 = COPY_MAX as u32 - 1;
    let Some(message) = COPY.get_ptr_mut(0) else { return };
    let wire_len = ctx.len() - l3 as u32;
    // There is a whole IP header, so this is not below zero.
    let last = wire_len - 1;
    // SAFETY: the message belongs to this CPU, and nothing else runs on it meanwhile. Head and as much
    // of the packet as is copied lie inside it, because `last` is below `COPY_MAX`.
    let sent = unsafe {
        let head = &raw mut (*message).head;
        (*head).time_ns = bpf_ktime_get_coarse_ns();
        (*head).ifindex = (*ctx.skb.skb).ifindex;
        (*head).wire_len = wire_len;
        (*head).flags = way | if mac.is_some() { Head::MAC } else { 0 };
        let [a, b, c] = mac.unwrap_or_default();
        (*head).mac[0] = a;
        (*head).mac[1] = b;
        (*head).mac[2] = c;
        // Read back from memory the compiler knows nothing of it and leaves the mask in, from which
        // every verifier knows the bound.
        let copied = &raw mut (*head).copied;
        copied.write_volatile(if last > LAST { LAST } else { last });
        let len = (copied.read_volatile() & LAST) + 1;
        *copied = len;
        let packet = (&raw mut (*message).packet).cast();
        if bpf_skb_load_bytes(ctx.skb.skb.cast(), l3 as u32, packet, len) != 0 {
            return;
        }
        let record = slice::from_raw_parts(message.cast::<u8>(), size_of::<Head>() + len as usize);
        MESSAGES.output::<[u8]>(record, 0)
    };
    if sent.is_err() {
        count(attachment.slot(), Counter::TcDnsLost);
    }
}
