//! `FLOWS`, `HELD`, `EPOCH`, `LIMITS` and `FLOW_COUNTS`: decisions in the kernel, and what it saw of decided
//! flows.
//!
//! The only writer of the first three; a flow is in one of the first two. Which decisions exist and when they end is
//! [`FlowTable`](super::table::FlowTable)'s.

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use sluice_abi::flow::{FlowCount, FlowKey, FlowLimit, FlowState};
use sluice_abi::names;
use sluice_abi::verdict::Verdict;

use super::error::Error;
use super::totals::values;

/// Decided flows as the programs see them.
pub struct Flows {
    trusted: HashMap<MapData, FlowKey, FlowState>,
    held: HashMap<MapData, FlowKey, FlowState>,
    limits: Array<MapData, FlowLimit>,
    counts: PerCpuArray<MapData, FlowCount>,
    epoch: Array<MapData, u32>,
    /// What it holds.
    current: u32,
}

/// The maps of [`Flows`].
#[derive(Debug)]
pub struct FlowMaps {
    /// `FLOWS`
    pub flows: Map,
    /// `HELD`
    pub held: Map,
    /// `LIMITS`
    pub limits: Map,
    /// `FLOW_COUNTS`
    pub counts: Map,
    /// `EPOCH`
    pub epoch: Map,
}

/// A flow that an earlier agent left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// Its keys; two when NAT gives it two.
    pub keys: Vec<(FlowKey, FlowState)>,
    /// The rate that it is held to, if it is limited.
    pub limit: FlowLimit,
}

/// What an agent found in the maps that an earlier one left behind.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Flows that stay blocked or limited. Their slots are not theirs any more: insert them into the
    /// table of decisions and set them again.
    pub held: Vec<Left>,
    /// Keys that were forgotten; their flows will be inspected again.
    pub forgotten: usize,
}

impl Flows {
    /// Takes the maps.
    pub fn new(maps: FlowMaps) -> Result<Self, Error> {
        let epoch = Array::try_from(maps.epoch).map_err(Error::map(names::EPOCH, "open"))?;
        let current = epoch.get(&0, 0).map_err(Error::map(names::EPOCH, "read"))?;
        Ok(Self {
            trusted: HashMap::try_from(maps.flows).map_err(Error::map(names::FLOWS, "open"))?,
            held: HashMap::try_from(maps.held).map_err(Error::map(names::HELD, "open"))?,
            limits: Array::try_from(maps.limits).map_err(Error::map(names::LIMITS, "open"))?,
            counts: PerCpuArray::try_from(maps.counts)
                .map_err(Error::map(names::FLOW_COUNTS, "open"))?,
            epoch,
            current,
        })
    }

    /// Writes a decision, over an older one of the same flow. A trusted one never fails for want of
    /// room: the kernel then forgets the decision that was used longest ago. A blocked or limited
    /// one does: `false` says that there is no room, and the older one is as it was.
    pub fn set(&mut self, key: &FlowKey, state: &FlowState) -> Result<bool, Error> {
        // Programs look in `FLOWS` first. The old place is emptied last, so that there is no moment
        // without a decision.
        if !is_held(state) {
            self.trusted.insert(key, state, 0).map_err(Error::map(names::FLOWS, "insert into"))?;
            remove(&mut self.held, names::HELD, key)?;
            self.outdate()?;
            return Ok(true);
        }
        match self.held.insert(key, state, 0) {
            Ok(()) => {
                remove(&mut self.trusted, names::FLOWS, key)?;
                self.outdate()?;
                Ok(true)
            }
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::E2BIG) =>
            {
                Ok(false)
            }
            Err(source) => Err(Error::map(names::HELD, "insert into")(source)),
        }
    }

    /// Sets the rate of the limited flow that is counted in `slot`, with full buckets.
    pub fn limit(&mut self, slot: u32, limit: &FlowLimit) -> Result<(), Error> {
        self.limits.set(slot, limit, 0).map_err(Error::map(names::LIMITS, "write"))
    }

    /// Forgets a decision; `false` when there was none.
    pub fn remove(&mut self, key: &FlowKey) -> Result<bool, Error> {
        let trusted = remove(&mut self.trusted, names::FLOWS, key)?;
        let held = remove(&mut self.held, names::HELD, key)?;
        self.outdate()?;
        Ok(trusted || held)
    }

    /// Has the programs look up again what they remember of this timer tick. Behind the decision that
    /// changed: who reads the epoch before that and the decision after it only forgets too much.
    fn outdate(&mut self) -> Result<(), Error> {
        self.current = self.current.wrapping_add(1);
        self.epoch.set(0, self.current, 0).map_err(Error::map(names::EPOCH, "write"))
    }

    /// The decision about a flow, as the programs find it. Looking does not make it look used.
    pub fn get(&self, key: &FlowKey) -> Result<Option<FlowState>, Error> {
        for (map, name) in [(&self.trusted, names::FLOWS), (&self.held, names::HELD)] {
            match map.get(key, 0) {
                Ok(state) => return Ok(Some(state)),
                Err(MapError::KeyNotFound) => {}
                Err(source) => return Err(Error::map(name, "read")(source)),
            }
        }
        Ok(None)
    }

    /// What all CPUs together counted in `slot`, ever: the agent never clears a slot.
    pub fn count(&self, slot: u32) -> Result<FlowCount, Error> {
        let mut sum = FlowCount::default();
        values(&self.counts, slot, names::FLOW_COUNTS, |count: FlowCount| {
            sum.original_packets = sum.original_packets.wrapping_add(count.original_packets);
            sum.original_bytes = sum.original_bytes.wrapping_add(count.original_bytes);
            sum.reply_packets = sum.reply_packets.wrapping_add(count.reply_packets);
            sum.reply_bytes = sum.reply_bytes.wrapping_add(count.reply_bytes);
            sum.last_seen_ns = sum.last_seen_ns.max(count.last_seen_ns);
            sum.closing_ns = sum.closing_ns.max(count.closing_ns);
        })?;
        Ok(sum)
    }

    /// The keys in the maps; those that change meanwhile may be missing or twice.
    pub fn keys(&self) -> Result<Vec<FlowKey>, Error> {
        let mut keys = list(&self.trusted, names::FLOWS)?;
        keys.extend(list(&self.held, names::HELD)?);
        Ok(keys)
    }

    /// Goes through what an earlier agent left: blocked flows stay until their deadline and limited
    /// ones limited, everything else is forgotten, because nobody knows any more why it was trusted.
    pub fn adopt(&mut self, now_s: u32) -> Result<Adopted, Error> {
        let mut adopted = Adopted::default();
        let mut by_slot = std::collections::BTreeMap::<u32, Left>::new();
        for key in list(&self.trusted, names::FLOWS)? {
            adopted.forgotten += usize::from(remove(&mut self.trusted, names::FLOWS, &key)?);
        }
        self.outdate()?;
        for key in list(&self.held, names::HELD)? {
            let Ok(state) = self.held.get(&key, 0) else { continue };
            if state.is_expired(now_s) {
                adopted.forgotten += usize::from(remove(&mut self.held, names::HELD, &key)?);
                continue;
            }
            let limit = self.limits.get(&state.slot, 0).unwrap_or_default();
            // Keys with one slot are those of one connection.
            by_slot
                .entry(state.slot)
                .or_insert_with(|| Left { keys: Vec::new(), limit })
                .keys
                .push((key, state));
        }
        adopted.held = by_slot.into_values().collect();
        Ok(adopted)
    }
}

const fn is_held(state: &FlowState) -> bool {
    matches!(state.verdict(), Verdict::Blocked | Verdict::Limited)
}

type Decisions = HashMap<MapData, FlowKey, FlowState>;

fn list(map: &Decisions, name: &'static str) -> Result<Vec<FlowKey>, Error> {
    map.keys().collect::<Result<_, _>>().map_err(Error::map(name, "list"))
}

fn remove(map: &mut Decisions, name: &'static str, key: &FlowKey) -> Result<bool, Error> {
    match map.remove(key) {
        Ok(()) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        // aya passes the kernel's answer to a deletion on as it is.
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(false)
        }
        Err(source) => Err(Error::map(name, "remove from")(source)),
    }
}
