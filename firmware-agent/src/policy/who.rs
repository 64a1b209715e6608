//! Whose flows a rule is about.

use super::Ends;
use crate::config::{Device, Mac, Net};

/// Whose flows a rule is about: any of these, or everyone's.
#[derive(Clone, Debug, Default)]
pub(super) struct Who {
    pub(super) is_everyone: bool,
    pub(super) devices: Devices,
    /// Devices of its groups.
    pub(super) members: Devices,
    /// Interfaces, one bit each.
    pub(super) zones: u64,
}

impl Who {
    /// How particular it is about the device of this flow; `None` when it is not about it.
    pub(super) fn tier(&self, ends: &Ends) -> Option<u8> {
        let is_zone = |zone: u8| self.zones.checked_shr(zone.into()).is_some_and(|z| z & 1 == 1);
        if self.devices.contain(ends) {
            Some(3)
        } else if self.members.contain(ends) {
            Some(2)
        } else if ends.zone.is_some_and(is_zone) {
            Some(1)
        } else {
            self.is_everyone.then_some(0)
        }
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.devices.memory() + self.members.memory()
    }
}

/// Devices, in a form that is quick to ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices {
    macs: Box<[Mac]>,
    nets: Box<[Net]>,
}

impl Devices {
    pub(super) fn new<'a>(devices: impl IntoIterator<Item = &'a Device>) -> Self {
        let (mut macs, mut nets) = (Vec::new(), Vec::new());
        for device in devices {
            match device {
                Device::Mac(mac) => macs.push(*mac),
                Device::Net(net) => nets.push(*net),
            }
        }
        macs.sort_unstable();
        Self { macs: macs.into(), nets: nets.into() }
    }

    fn contain(&self, ends: &Ends) -> bool {
        let host = Net::new(ends.device, 128);
        ends.mac.is_some_and(|mac| self.macs.binary_search(&mac).is_ok())
            || self.nets.iter().any(|net| net.contains(&host))
    }

    fn memory(&self) -> usize {
        size_of_val(&*self.macs) + size_of_val(&*self.nets)
    }
}
