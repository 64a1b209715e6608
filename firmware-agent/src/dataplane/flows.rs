//! `FLOWS` and `FLOW_COUNTS`: decisions in the kernel, and what it saw of decided flows.
//!
//! The only writer of `FLOWS`. Which decisions exist and when they end is
//! [`FlowTable`](super::table::FlowTable)'s.

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use sluice_abi::flow::{FlowCount, FlowKey, FlowState};
use sluice_abi::names;
use sluice_abi::verdict::Verdict;

use super::error::Error;
use super::totals::values;

/// Decided flows as the programs see them.
pub struct Flows {
    flows: HashMap<MapData, FlowKey, FlowState>,
    counts: PerCpuArray<MapData, FlowCount>,
}

/// What an agent found in the map that an earlier one left behind.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Flows that stay blocked. Their slots are not theirs any more: insert them into the table of
    /// decisions and set them again.
    pub blocked: Vec<(FlowKey, FlowState)>,
    /// Flows that were forgotten, and will be inspected again.
    pub forgotten: usize,
}

impl Flows {
    /// Takes the maps.
    pub fn new(flows: Map, counts: Map) -> Result<Self, Error> {
        let flows = HashMap::try_from(flows).map_err(Error::map(names::FLOWS, "open"))?;
        let counts =
            PerCpuArray::try_from(counts).map_err(Error::map(names::FLOW_COUNTS, "open"))?;
        Ok(Self { flows, counts })
    }

    /// Writes a decision, over an older one of the same flow. Never fails for want of room: the
    /// kernel then forgets the decision that was used longest ago.
    pub fn set(&mut self, key: &FlowKey, state: &FlowState) -> Result<(), Error> {
        self.flows.insert(key, state, 0).map_err(Error::map(names::FLOWS, "insert into"))
    }

    /// Forgets a decision; `false` when there was none.
    pub fn remove(&mut self, key: &FlowKey) -> Result<bool, Error> {
        match self.flows.remove(key) {
            Ok(()) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            // aya passes the kernel's answer to a deletion on as it is.
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                Ok(false)
            }
            Err(source) => Err(Error::map(names::FLOWS, "remove from")(source)),
        }
    }

    /// The decision about a flow. Looking does not make it look used.
    pub fn get(&self, key: &FlowKey) -> Result<Option<FlowState>, Error> {
        match self.flows.get(key, 0) {
            Ok(state) => Ok(Some(state)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(Error::map(names::FLOWS, "read")(source)),
        }
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
        })?;
        Ok(sum)
    }

    /// The keys in the map; those that change meanwhile may be missing or twice.
    pub fn keys(&self) -> Result<Vec<FlowKey>, Error> {
        self.flows.keys().collect::<Result<_, _>>().map_err(Error::map(names::FLOWS, "list"))
    }

    /// Goes through what an earlier agent left: blocked flows stay until their deadline, everything
    /// else is forgotten, because nobody knows any more why it was trusted.
    pub fn adopt(&mut self, now_s: u32) -> Result<Adopted, Error> {
        let mut adopted = Adopted::default();
        for key in self.keys()? {
            let Some(state) = self.get(&key)? else { continue };
            if state.verdict() == Verdict::Blocked && !state.is_expired(now_s) {
                adopted.blocked.push((key, state));
            } else {
                adopted.forgotten += usize::from(self.remove(&key)?);
            }
        }
        Ok(adopted)
    }
}
