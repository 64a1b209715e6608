//! Checks and rates of the shield: the maps and the clock around `datapath`'s decisions.

use core::cell::UnsafeCell;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use sluice_abi::counter::Counter;
use sluice_abi::flow::Addr;
use sluice_abi::limits::{
    ATTACKED_MAX, Attacked, KNOWN_SETS, KnownSet, Limits, OFFENDERS as OFFENDERS_LEN, OWN_MAX,
    Offender, Offenders, SCANS as SCANS_LEN, Scan, check,
};
use sluice_abi::reason::DropReason;
use sluice_abi::settings::Settings;
use sluice_abi::shield::{BucketSet, Rate};
use sluice_datapath::bucket::Pace;
use sluice_datapath::checks::{self, Brief, Counted};
use sluice_datapath::scan;
use sluice_datapath::sources::{Change, Chosen, Class, Id, Place, WHOLE};

use crate::counters::count;

/// Buckets of sources and destinations.
#[map]
pub static BUCKETS: Array<BucketSet> = Array::pinned(1, 0);

/// Who was over a rate lately.
#[map]
pub static OFFENDERS: PerCpuArray<Offenders> = PerCpuArray::pinned(1, 0);

/// Ports that sources tried.
#[map]
pub static SCANS: Array<Scan> = Array::pinned(SCANS_LEN, 0);

/// Sources that completed a handshake. Only the agent writes it.
#[map]
pub static KNOWN: Array<KnownSet> = Array::pinned(KNOWN_SETS, 0);

/// Addresses of this router. Only the agent writes it.
#[map]
pub static OWN: HashMap<Addr, u32> = HashMap::pinned(OWN_MAX, 0);

/// Destinations under attack. The agent says which; what strangers send them is counted here.
#[map]
pub static ATTACKED: HashMap<Addr, Attacked> = HashMap::pinned(ATTACKED_MAX, 0);

/// What a program keeps about the packet that it is looking at, one per CPU. In memory of which the
/// verifier remembers nothing all ways to a value become one, and what follows is walked once.
pub struct Memory {
    /// The packet.
    pub brief: Brief,
    hidden: UnsafeCell<u32>,
}

// SAFETY: each CPU has a copy of its own.
unsafe impl Sync for Memory {}

impl Memory {
    /// The same value, of which the verifier knows nothing.
    #[inline(always)]
    pub(crate) fn forget(&self, value: u32) -> u32 {
        let hidden = self.hidden.get();
        // SAFETY: the memory belongs to this CPU, and nothing else runs on it meanwhile.
        unsafe {
            hidden.write_volatile(value);
            hidden.read_volatile()
        }
    }
}

/// What to count a packet from outside as, when something speaks against it. Cheapest first.
#[inline(always)]
pub fn objection(
    memory: &Memory,
    settings: &Settings,
    slot: u32,
    sets: &'static Global<u32>,
    cookies: Option<&'static Global<u32>>,
) -> Option<Counter> {
    let brief = &memory.brief;
    let limits = &settings.limits;
    let on = limits.checks;
    if on == 0 || on & Limits::MULTICAST_EXEMPT != 0 && brief.is_to_group() {
        return None;
    }
    if on & Limits::TCP_FLAGS != 0 && brief.has_invalid_flags() {
        return Some(Counter::XdpDropTcpFlags);
    }
    if on & Limits::ADDRESSES != 0
        && let Some(reason) = checks::addresses(brief, limits, is_own)
    {
        return reason.counter();
    }
    if on & Limits::RATES == 0 && !(on & (Limits::SCANS | Limits::ATTACKED) != 0 && brief.is_syn())
    {
        return None;
    }
    let source = Id::new(&brief.src, brief.is_v4(), &limits.source_mask_v6);
    let side = Side { memory, key: settings.hash_key, now_ms: now_ms(limits), slot, sets };
    if on & Limits::SCANS != 0 && brief.is_syn() {
        side.note_port(brief, source);
    }
    if on & Limits::SOURCES != 0
        && let Some(counted) = checks::of_source(brief, limits)
        && let Some(drop) = side.of_source(&brief.src, source, counted, Pace::Second)
    {
        return Some(drop);
    }
    if on & Limits::CONNECTIONS != 0 && brief.is_syn() {
        let counted = Counted {
            class: Class::Connection.number(),
            rate: limits.connections,
            reason: DropReason::ConnectionRate,
        };
        if let Some(drop) = side.of_source(&brief.src, source, counted, Pace::Minute) {
            return Some(drop);
        }
    }
    if on & (Limits::DESTINATIONS | Limits::ATTACKED) == 0 {
        return None;
    }
    let attacked = if on & Limits::ATTACKED != 0 && brief.is_syn() {
        ATTACKED.get_ptr_mut(&brief.dst)
    } else {
        None
    };
    let counted = match attacked {
        Some(_) => Some(checks::of_attacked(limits)),
        None if on & Limits::DESTINATIONS != 0 => checks::of_destination(brief, limits),
        None => None,
    };
    if let Some(counted) = counted
        && !side.is_known(source)
    {
        if let Some(attacked) = attacked {
            // SAFETY: the agent replaces entries as a whole, and one that is removed stays until
            // the program ends; a count that two processors write at once is one too small.
            unsafe { (*attacked).syns += 1 };
            // SAFETY: as above.
            let ports = unsafe { (*attacked).ports };
            if cookies.is_some_and(|cookies| cookies.load() != 0)
                && brief.dport != 0
                && ports.contains(&brief.dport)
            {
                return Some(Counter::XdpSynAnswered);
            }
        }
        return side.of_destination(brief, counted);
    }
    None
}

#[inline(always)]
fn is_own(addr: &Addr) -> bool {
    OWN.get_ptr(addr).is_some()
}

/// Milliseconds of the last timer tick (`bpf_jiffies64`, kernel 5.5), modulo 2³²: one load where
/// the kernel compiles programs for 64 bits, while every clock is a call.
#[inline(always)]
pub(crate) fn now_ms(limits: &Limits) -> u32 {
    (ticks().wrapping_mul(u64::from(limits.tick)) >> 16) as u32
}

/// Timer ticks since the kernel started, and a constant.
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_jiffies64() }
}

/// What all rates of one packet need.
struct Side<'a> {
    memory: &'a Memory,
    key: u32,
    now_ms: u32,
    slot: u32,
    /// Number of sets, a power of two, less one.
    sets: &'static Global<u32>,
}

impl Side<'_> {
    #[inline(always)]
    fn of_source(&self, addr: &Addr, id: Id, by: Counted, per: Pace) -> Option<Counter> {
        let place = id.place(by.class, self.key);
        let (granted, change) = self.take(place, by.rate, per);
        match change {
            Change::Known => {}
            Change::New => count(self.slot, Counter::SourceNew),
            Change::Evicted => count(self.slot, Counter::SourceEvicted),
        }
        if granted {
            return None;
        }
        self.offend(addr, place, by.reason);
        by.reason.counter()
    }

    #[inline(always)]
    fn of_destination(&self, brief: &Brief, by: Counted) -> Option<Counter> {
        let place = Id::new(&brief.dst, brief.is_v4(), &WHOLE).place(by.class, self.key);
        let (granted, change) = self.take(place, by.rate, Pace::Second);
        match change {
            Change::Known => {}
            Change::New => count(self.slot, Counter::DestinationNew),
            Change::Evicted => count(self.slot, Counter::DestinationEvicted),
        }
        if granted {
            return None;
        }
        self.offend(&brief.dst, place, by.reason);
        by.reason.counter()
    }

    #[inline(always)]
    fn take(&self, place: Place, rate: Rate, per: Pace) -> (bool, Change) {
        let Some(set) = BUCKETS.get_ptr_mut(place.set & self.sets.load()) else {
            return (true, Change::Known);
        };
        // SAFETY: the set outlives the program. Other CPUs may write it at the same time: words
        // are not torn, and a lost update costs one token.
        let set = unsafe { &mut *set };
        let chosen = Chosen::find(set, place.tag, self.now_ms);
        let chosen = Chosen::from_word(self.memory.forget(chosen.word()));
        (chosen.take(set, place.tag, self.now_ms, rate, per), chosen.change())
    }

    #[inline(always)]
    fn is_known(&self, source: Id) -> bool {
        let place = source.place(Class::Known.number(), self.key);
        let Some(set) = KNOWN.get(place.set & (KNOWN_SETS - 1)) else { return false };
        set.tags.contains(&place.tag)
    }

    #[inline(always)]
    fn note_port(&self, brief: &Brief, source: Id) {
        let place = source.place(Class::Scan.number(), self.key);
        if let Some(entry) = SCANS.get_ptr_mut(place.set & (SCANS_LEN - 1)) {
            // SAFETY: the entry outlives the program. What two CPUs write at once the agent
            // recognises by the check word, or it is a port more or less.
            scan::note(unsafe { &mut *entry }, &brief.src, place.tag, brief.dport, self.now_ms);
        }
    }

    /// Notes who was over a rate: no insertion, one entry per hash.
    #[inline(always)]
    fn offend(&self, addr: &Addr, place: Place, reason: DropReason) {
        let Some(all) = OFFENDERS.get_ptr_mut(0) else { return };
        let index = (place.tag >> 8) as usize & (OFFENDERS_LEN - 1);
        // SAFETY: the value belongs to this CPU, and nothing else runs on it meanwhile; the index
        // is below the length by the mask.
        let entry = unsafe { &mut *(&raw mut (*all).entries).cast::<Offender>().add(index) };
        let check = check(addr);
        if entry.check != check || entry.reason != reason as u32 {
            entry.check = 0;
            entry.addr = *addr;
            entry.reason = reason as u32;
            entry.packets = 0;
            entry.check = check;
        }
        entry.packets += 1;
        entry.last_ms = self.now_ms;
    }
}
