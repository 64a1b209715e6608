//! What rules or lists did, by number, and to whose flows those that only observe would have done it.

use std::cmp::Reverse;
use std::collections::HashMap;

use sluice_abi::flow::Addr;

use crate::control::report::RuleDevice;
use crate::policy::Ends;

/// Devices that are told apart under what observes.
const DEVICES_MAX: usize = 1024;

/// What all of them did.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    hits: Vec<Hits>,
    /// Flows of a device that would have been blocked.
    devices: HashMap<(u32, Addr), u64>,
}

/// What one of them did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hits {
    /// Flows that it decided, or would have.
    pub(super) flows: u64,
    /// When the first one was; 0 is never.
    pub(super) first_ns: u64,
    /// When the last one was; 0 is never.
    pub(super) last_ns: u64,
    /// Device and other end of the last one, where they are known.
    pub(super) last: Option<(Addr, Addr)>,
}

impl Ledger {
    /// Nothing yet, of so many.
    pub(super) fn new(count: usize) -> Self {
        Self { hits: vec![Hits::default(); count], devices: HashMap::new() }
    }

    /// Counts a flow that `number` decided.
    pub(super) fn hit(&mut self, number: u32, ends: Option<&Ends>, now_ns: u64) {
        if let Some(hits) = self.hits.get_mut(number as usize) {
            hits.flows += 1;
            if hits.first_ns == 0 {
                hits.first_ns = now_ns;
            }
            hits.last_ns = now_ns;
            hits.last = ends.map(|ends| (ends.device, ends.peer));
        }
    }

    /// Counts a flow that `number` would have blocked.
    pub(super) fn observed(&mut self, number: u32, ends: Option<&Ends>, now_ns: u64) {
        self.hit(number, ends, now_ns);
        let Some(ends) = ends else { return };
        let key = (number, ends.device);
        if self.devices.len() < DEVICES_MAX || self.devices.contains_key(&key) {
            *self.devices.entry(key).or_default() += 1;
        }
    }

    /// What `number` did.
    pub(super) fn hits(&self, number: u32) -> Hits {
        self.hits.get(number as usize).copied().unwrap_or_default()
    }

    /// Whose flows `number` would have blocked, those with the most first.
    pub(super) fn devices(&self, number: u32) -> Vec<RuleDevice> {
        let devices = self.devices.iter().filter(|((of, _), _)| *of == number);
        let mut devices: Vec<RuleDevice> = devices
            .map(|((_, device), flows)| RuleDevice {
                address: (*device).into(),
                device_name: None,
                flows: *flows,
            })
            .collect();
        devices.sort_unstable_by_key(|device| (Reverse(device.flows), device.address));
        devices
    }

    /// Keeps what those did that have the same name among the new ones.
    pub(super) fn renumber<'a>(
        &mut self,
        old: impl Iterator<Item = &'a str>,
        new: impl Iterator<Item = &'a str>,
    ) {
        let places: HashMap<&str, u32> = new.zip(0..).collect();
        let numbers: HashMap<u32, u32> = (0..)
            .zip(old)
            .filter_map(|(number, name)| Some((number, *places.get(name)?)))
            .collect();
        let mut hits = vec![Hits::default(); places.len()];
        for (number, place) in &numbers {
            if let Some(slot) = hits.get_mut(*place as usize) {
                *slot = self.hits(*number);
            }
        }
        let devices = std::mem::take(&mut self.devices).into_iter();
        self.devices = devices
            .filter_map(|((number, device), flows)| Some(((*numbers.get(&number)?, device), flows)))
            .collect();
        self.hits = hits;
    }
}
