//! Answers a SYN packet in its place: the helpers around `datapath`'s headers. All of them are newer
//! than the rest of the shield (6.0), which reaches them only where the agent found them.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{
    bpf_tcp_raw_gen_syncookie_ipv4, bpf_tcp_raw_gen_syncookie_ipv6, bpf_xdp_adjust_tail,
    bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use sluice_abi::counter::Counter;
use sluice_abi::limits::Limits;
use sluice_datapath::syncookie::{Draft, OPTIONS_MAX, Offered};

use crate::guard::{Memory, now_ms};

/// What a program keeps while it writes an answer.
pub struct Reply {
    offered: Offered,
    draft: Draft,
    /// The TCP header of the SYN packet.
    head: [u32; 5],
    options: [u8; OPTIONS_MAX],
    /// Both addresses of the link; then the last four bytes of the link header.
    link: [u16; 6],
}

impl Reply {
    /// Turns the packet into its answer. What cannot be answered is dropped.
    #[inline(always)]
    pub fn send(
        &mut self,
        ctx: &XdpContext,
        memory: &Memory,
        limits: &Limits,
        bytes: u64,
    ) -> Counter {
        match self.try_send(ctx, memory, limits, bytes) {
            Some(()) => Counter::XdpSynAnswered,
            None => Counter::XdpDropAttackedSyn,
        }
    }

    #[inline(always)]
    fn try_send(
        &mut self,
        ctx: &XdpContext,
        memory: &Memory,
        limits: &Limits,
        bytes: u64,
    ) -> Option<()> {
        let brief = &memory.brief;
        load(ctx, brief.l4, &mut self.head, 20)?;
        let len = (u32::from_be(self.head[3]) >> 28).wrapping_mul(4).wrapping_sub(20) & 63;
        if len != 0 {
            load(ctx, brief.l4 + 20, &mut self.options, len)?;
        }
        self.offered.read(&self.options, len, |value| memory.forget(value));
        let number = u32::from_be(self.head[1]);
        self.draft.question(brief, number, &self.offered);
        let (ip, tcp) = (&raw mut self.draft.ip, &raw mut self.draft.tcp);
        let (cookie, ip_len) = if brief.is_v4() {
            // SAFETY: both headers are longer than the helper reads.
            let cookie =
                unsafe { bpf_tcp_raw_gen_syncookie_ipv4(ip.cast(), tcp.cast(), Draft::QUESTION) };
            (cookie, 20)
        } else {
            // SAFETY: as above.
            let cookie =
                unsafe { bpf_tcp_raw_gen_syncookie_ipv6(ip.cast(), tcp.cast(), Draft::QUESTION) };
            (cookie, 40)
        };
        if cookie < 0 {
            return None;
        }
        let now = now_ms(limits);
        let tcp_len = self.draft.answer(brief, number, cookie as u32, &self.offered, limits, now);
        load(ctx, 0, &mut self.link, 12)?;
        let [a, b, c, d, e, f] = self.link;
        let delta = i64::from(brief.l3 + ip_len + tcp_len) - bytes as i64;
        // SAFETY: the context is the program's.
        if delta != 0 && unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), delta as i32) } != 0 {
            return None;
        }
        self.link = [d, e, f, a, b, c];
        store(ctx, 0, &self.link, 12)?;
        // In a PPPoE session its length and protocol come last; else the type of the frame does.
        load(ctx, brief.l3 - 4, &mut self.link, 4)?;
        if matches!(u16::from_be(self.link[1]), PPP_IPV4 | PPP_IPV6) {
            self.link[0] = ((ip_len + tcp_len + 2) as u16).to_be();
            store(ctx, brief.l3 - 4, &self.link, 4)?;
        }
        store(ctx, brief.l3, &self.draft.ip, ip_len)?;
        store(ctx, brief.l3 + ip_len, &self.draft.tcp, tcp_len)
    }
}

/// Protocol numbers of PPP.
const PPP_IPV4: u16 = 0x21;
const PPP_IPV6: u16 = 0x57;

/// Copies `len` bytes of the packet, no more than `to` has (`bpf_xdp_load_bytes`, kernel 5.18).
#[inline(always)]
fn load<T>(ctx: &XdpContext, offset: u32, to: &mut T, len: u32) -> Option<()> {
    let to = core::ptr::from_mut(to).cast();
    // SAFETY: the callers give no length beyond the memory; the verifier checks it once more.
    let failed = unsafe { bpf_xdp_load_bytes(ctx.as_ptr().cast(), offset, to, len) };
    (failed == 0).then_some(())
}

/// Copies `len` bytes into the packet (`bpf_xdp_store_bytes`, kernel 5.18).
#[inline(always)]
fn store<T>(ctx: &XdpContext, offset: u32, from: &T, len: u32) -> Option<()> {
    let from = core::ptr::from_ref(from).cast_mut().cast();
    // SAFETY: as above; the helper only reads.
    let failed = unsafe { bpf_xdp_store_bytes(ctx.as_ptr().cast(), offset, from, len) };
    (failed == 0).then_some(())
}
