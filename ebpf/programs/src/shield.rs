//! The shield's judgement of a packet, for the program before the stack and for the one at its entrance: is an
//! address listed, does anything speak against it.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{HashMap, PerCpuArray};
use sluice_abi::attach::{Attachment, Link, Role};
use sluice_abi::counter::Counter;
use sluice_abi::flow::Addr;
use sluice_abi::names::LISTS_MAX;
use sluice_abi::settings::Settings;
use sluice_abi::shield::{AllowEntry, BlockEntry, ListHits};
use sluice_datapath::checks::Brief;

use crate::bulk::{self, Bulk};
use crate::guard::{self, Memory};
use crate::values::live;

/// Listed addresses.
#[map]
pub static BLOCK_HOSTS: HashMap<Addr, BlockEntry> = HashMap::pinned(1, 0);

/// Listed prefixes, host addresses of IPv4 with 96 bits in front.
#[map]
pub static BLOCK_NETS: LpmTrie<Addr, BlockEntry> = LpmTrie::pinned(1, 0);

/// Prefixes that no list blocks.
#[map]
pub static ALLOW_NETS: LpmTrie<Addr, AllowEntry> = LpmTrie::pinned(1, 0);

/// The image of the configured lists.
#[btf_map]
pub static BULK: Bulk = Bulk::new();

/// What each list dropped.
#[map]
pub static LIST_HITS: PerCpuArray<ListHits> = PerCpuArray::pinned(LISTS_MAX, 0);

/// What a program knows about its packet, in memory of which the verifier remembers nothing: all
/// ways through the parser become one, and what follows is walked once.
#[repr(C)]
pub struct Seen {
    /// The packet.
    pub memory: Memory,
    found: Found,
}

/// How a program judges.
#[derive(Clone, Copy)]
pub struct Shield {
    /// The interface.
    pub attachment: Attachment,
    /// Number of sets in `BUCKETS`, a power of two, less one. Read where it is needed: most packets are passed or
    /// dropped before.
    pub bucket_mask: &'static Global<u32>,
    /// Whether the program can answer with SYN cookies, 1 or 0, where frames are Ethernet.
    pub cookies: Option<&'static Global<u32>>,
}

impl Shield {
    /// What to count the packet of `len` bytes in `seen` as.
    #[inline(always)]
    pub fn judge(self, seen: &mut Seen, settings: &Settings, len: u64) -> Counter {
        let Self { attachment, bucket_mask, cookies } = self;
        let Seen { memory, found } = seen;
        let brief = &memory.brief;
        let address = match attachment.role() {
            Role::Wan => &brief.src,
            Role::Lan => &brief.dst,
        };
        *found = listed(address, settings);
        if let Some((list, drop)) = read(found).block()
            && !is_allowed(address, attachment.role())
        {
            hit(list, len, brief, attachment.slot());
            return drop;
        }
        // Not before: the compiler would make all that is above for each kind of link.
        let cookies = cookies.filter(|_| matches!(attachment.link(), Link::Ethernet));
        if matches!(attachment.role(), Role::Wan)
            && let Some(objection) =
                guard::objection(memory, settings, attachment.slot(), bucket_mask, cookies)
        {
            return objection;
        }
        if read(found).block().is_some() { Counter::XdpAllowed } else { Counter::XdpPass }
    }
}

/// Which list blocks the packet: its number and one, and how it was found above; 0 for none.
#[derive(Clone, Copy)]
struct Found(u32);

impl Found {
    const NOT: Self = Self(0);
    const HOST: u32 = 1 << 16;
    const PREFIX: u32 = 2 << 16;
    const LISTED: u32 = 3 << 16;

    #[inline(always)]
    const fn new(how: u32, list: u32) -> Self {
        Self(how | ((list + 1) & 0xffff))
    }

    /// Number of the list, and what to count the packet as.
    #[inline(always)]
    const fn block(self) -> Option<(u32, Counter)> {
        if self.0 == 0 {
            return None;
        }
        let drop = match self.0 & !0xffff {
            Self::HOST => Counter::XdpDropHost,
            Self::PREFIX => Counter::XdpDropPrefix,
            _ => Counter::XdpDropListed,
        };
        Some(((self.0 & 0xffff) - 1, drop))
    }
}

/// Reads what was found from memory, where the compiler would know it still: the ways through the
/// lists become one, too.
#[inline(always)]
fn read(found: &Found) -> Found {
    // SAFETY: the pointer is that of a reference.
    unsafe { core::ptr::read_volatile(found) }
}

/// The live entry, or else the list, that blocks `address`.
#[inline(always)]
fn listed(address: &Addr, settings: &Settings) -> Found {
    if settings.flags & (Settings::BLOCK_HOSTS | Settings::BLOCK_NETS) != 0 {
        let live = live();
        if settings.flags & Settings::BLOCK_HOSTS != 0
            && live.may_have_host(address)
            // SAFETY: the entry is copied at once; the agent replaces entries as a whole.
            && let Some(entry) = unsafe { BLOCK_HOSTS.get(address) }.copied()
            && is_live(&entry)
        {
            return Found::new(Found::HOST, entry.list);
        }
        if settings.flags & Settings::BLOCK_NETS != 0
            && live.may_have_net(address)
            && let Some(entry) = BLOCK_NETS.get(AlignedKey::of(address).as_key()).copied()
            && is_live(&entry)
        {
            return Found::new(Found::PREFIX, entry.list);
        }
    }
    if settings.flags & (Settings::BULK_V4 | Settings::BULK_V6) == 0 {
        return Found::NOT;
    }
    let family = if address.is_v4() { Settings::BULK_V4 } else { Settings::BULK_V6 };
    if settings.flags & family != 0
        && let Some(list) = bulk::lookup(&BULK, address)
    {
        return Found::new(Found::LISTED, list);
    }
    Found::NOT
}

#[inline(always)]
fn is_live(entry: &BlockEntry) -> bool {
    entry.expires_s == 0 || now_ns() < u64::from(entry.expires_s) * 1_000_000_000
}

#[inline(always)]
fn is_allowed(address: &Addr, role: Role) -> bool {
    live().may_be_allowed(address)
        && ALLOW_NETS
            .get(AlignedKey::of(address).as_key())
            .is_some_and(|entry| entry.roles & role.bit() != 0)
}

#[inline(always)]
fn hit(list: u32, bytes: u64, brief: &Brief, slot: u32) {
    if let Some(hits) = LIST_HITS.get_ptr_mut(list) {
        // SAFETY: the value belongs to this CPU and nothing else runs on it meanwhile.
        let hits = unsafe { &mut *hits };
        hits.packets += 1;
        hits.bytes += bytes;
        // The clock moves with the tick, and to ask for it costs more than all else here.
        let tick = guard::ticks() as u32;
        if hits.tick != tick || hits.last_ns == 0 {
            hits.tick = tick;
            hits.last_ns = now_ns();
            if hits.first_ns == 0 {
                hits.first_ns = hits.last_ns;
            }
            (hits.src, hits.dst, hits.slot) = (brief.src, brief.dst, slot);
        }
    }
}

/// Time of the last tick (`CLOCK_MONOTONIC`, kernel 5.11): half the price of the exact time, and a
/// tick (4 to 10 ms) is fine enough for rates and deadlines.
#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// An LPM key that is written by words: aya's is packed, so the compiler would write bytes.
#[repr(C, align(4))]
struct AlignedKey {
    prefix_len: u32,
    addr: Addr,
}

impl AlignedKey {
    #[inline(always)]
    const fn of(addr: &Addr) -> Self {
        Self { prefix_len: 128, addr: *addr }
    }

    #[inline(always)]
    const fn as_key(&self) -> &Key<Addr> {
        const { assert!(size_of::<Self>() == size_of::<Key<Addr>>()) }
        // SAFETY: same fields in the same order without padding; the target needs no alignment.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}
