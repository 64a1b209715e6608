//! Links: what keeps a program on its device.
//!
//! A pinned link outlives the agent. One that is held by its descriptor alone ends with the process,
//! whatever ends that: the kernel takes the program off the device.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::error::Error;
use super::pins::{Mark, Pins};
use crate::config::OnCrash;
use crate::sys::bpf;

/// The links of this agent, and those that an earlier one pinned.
#[derive(Debug)]
pub(super) struct Links {
    pins: Pins,
    on_crash: OnCrash,
    /// Held by descriptor, with no pin; empty when links are to be kept.
    open: BTreeMap<(Mark, u32), OwnedFd>,
}

impl Links {
    pub(super) const fn new(pins: Pins, on_crash: OnCrash) -> Self {
        Self { pins, on_crash, open: BTreeMap::new() }
    }

    /// The directory of pins and reminders.
    pub(super) const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// What a crash leaves.
    pub(super) const fn on_crash(&self) -> OnCrash {
        self.on_crash
    }

    /// The link of a device.
    pub(super) fn get(&self, mark: Mark, ifindex: u32) -> io::Result<OwnedFd> {
        match self.open.get(&(mark, ifindex)) {
            Some(link) => link.try_clone(),
            None => bpf::pinned(&self.pins.link(mark, ifindex)),
        }
    }

    /// Keeps a link, new or as [`Links::get`] gave it. When that fails a new one is gone with its
    /// descriptor.
    pub(super) fn keep(&mut self, mark: Mark, ifindex: u32, link: OwnedFd) -> io::Result<()> {
        match self.on_crash {
            OnCrash::Keep => {
                let path = self.pins.link(mark, ifindex);
                if path.exists() { Ok(()) } else { bpf::pin(link.as_fd(), &path) }
            }
            OnCrash::Detach => {
                // First held, then without its pin: there is always something that keeps it.
                self.open.insert((mark, ifindex), link);
                self.pins.remove(mark, ifindex).map_err(io::Error::other)
            }
        }
    }

    /// Detaches at once, so that the place is free, and forgets the link.
    pub(super) fn release(&mut self, mark: Mark, ifindex: u32) -> Result<(), Error> {
        if let Ok(link) = self.get(mark, ifindex) {
            // Fails when the device is gone; then there is nothing left to detach.
            let _ = bpf::link_detach(link.as_fd());
        }
        self.open.remove(&(mark, ifindex));
        self.pins.remove(mark, ifindex)
    }

    /// Everything that is held or pinned, and every reminder, in the order of [`Mark`].
    pub(super) fn marks(&self) -> Result<Vec<(Mark, u32)>, Error> {
        let mut marks = self.pins.marks()?;
        marks.extend(self.open.keys().copied());
        marks.sort_unstable();
        marks.dedup();
        Ok(marks)
    }

    /// Changes what a crash leaves. No program leaves its device for it.
    pub(super) fn set_on_crash(&mut self, on_crash: OnCrash) -> Result<(), Error> {
        self.on_crash = on_crash;
        let failed = |path, operation| move |source| Error::Pin { path, operation, source };
        match on_crash {
            OnCrash::Keep => {
                while let Some((&(mark, ifindex), link)) = self.open.first_key_value() {
                    let path = self.pins.link(mark, ifindex);
                    bpf::pin(link.as_fd(), &path).map_err(failed(path, "create"))?;
                    self.open.pop_first();
                }
            }
            OnCrash::Detach => {
                for (mark, ifindex) in self.pins.marks()? {
                    if mark.is_link() {
                        let path = self.pins.link(mark, ifindex);
                        let link = bpf::pinned(&path).map_err(failed(path.clone(), "open"))?;
                        self.keep(mark, ifindex, link).map_err(failed(path, "remove"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The directory alone; links that have no pin end here.
    pub(super) fn into_pins(self) -> Pins {
        self.pins
    }
}
