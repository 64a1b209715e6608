//! What somebody decided is written into the configuration, as a person would have written it, and
//! put into force by a reload. What the agent could not put into force is not left in the file.

use std::net::IpAddr;
use std::path::Path;

use super::reload::Prepared;
use super::running::{Running, State};
use crate::config::by_hand::{Page, Subject, Verb, Wish};
use crate::config::edit::Editor;
use crate::config::{Device, Mac, Moment, Net, PACKAGE, store};
use crate::control::hand::{About, Hold, Written};
use crate::plan::guard::Guard;
use crate::sys::rtnetlink::{self, Neighbour};

/// Changes a page of the configuration, at this time of day.
type Edit<'a> = &'a mut dyn FnMut(&mut Page, Option<i64>) -> Result<(), String>;

impl Running {
    /// Lets a subject pass that something blocks, or everything of a device.
    pub(super) fn allow(&self, about: &About) -> Result<Written, String> {
        let (subject, device) = self.read(about)?;
        let (verb, until) = {
            let mut state = self.state.lock();
            let list = match &subject {
                Some(Subject::Net(net)) => state.blocklist_of(net.addr().into()).map(str::to_owned),
                _ => None,
            };
            if let (Some(list), Some(subject), Some(_)) = (&list, &subject, &device) {
                return Err(format!(
                    "{subject} is on blocklist {list}, which counts for every device: allow it \
                     without a device"
                ));
            }
            let verb = if list.is_some() { Verb::Lift } else { Verb::Allow };
            (verb, state.until(about.seconds)?)
        };
        self.decide(&Wish { verb, subject, device, until })
    }

    /// Blocks what goes to a subject, or everything of a device.
    pub(super) fn deny(&self, about: &About) -> Result<Written, String> {
        let (subject, device) = self.read(about)?;
        let until = {
            let mut state = self.state.lock();
            match (&subject, &device) {
                (Some(Subject::Net(net)), _) => state.may_stop(net)?,
                (None, Some(device)) => state.may_pause(device)?,
                _ => {}
            }
            state.until(about.seconds)?
        };
        self.decide(&Wish { verb: Verb::Deny, subject, device, until })
    }

    /// Blocks everything of a device.
    pub(super) fn pause(&self, hold: &Hold) -> Result<Written, String> {
        if hold.kbit.is_some() {
            return Err("a pause has no rate".to_owned());
        }
        let device = self.who(&hold.device)?;
        let until = {
            let mut state = self.state.lock();
            state.may_pause(&device)?;
            state.until(hold.seconds)?
        };
        self.decide(&Wish { verb: Verb::Pause, subject: None, device: Some(device), until })
    }

    /// Ends a pause.
    pub(super) fn resume(&self, device: &str) -> Result<Written, String> {
        // The address may have been another device's when it was paused.
        let mut whose = vec![self.who(device)?, one(device)?];
        whose.dedup();
        self.write(|page, _| {
            let pause = |device: &Device| {
                page.find(&Wish {
                    verb: Verb::Pause,
                    subject: None,
                    device: Some(*device),
                    until: None,
                })
            };
            let section = whose.iter().find_map(pause);
            let section = section.ok_or_else(|| format!("{} is not paused by hand", whose[0]))?;
            page.forget(&section)?;
            Ok(Written { section })
        })
    }

    /// Holds the flows of a device to a rate, or does so no more.
    pub(super) fn limit(&self, hold: &Hold) -> Result<Written, String> {
        let device = self.who(&hold.device)?;
        let kbit = hold.kbit.ok_or("a limit needs a rate, kbit")?;
        let until = self.state.lock().until(hold.seconds)?;
        let wish = Wish { verb: Verb::Limit, subject: None, device: Some(device), until };
        self.write(|page, _| {
            let section = if kbit == 0 {
                let section = page.find(&wish);
                let section = section.ok_or_else(|| format!("{device} is not limited by hand"))?;
                page.forget(&section)?;
                section
            } else {
                page.limit(&wish, kbit).map_err(|error| error.to_string())?
            };
            Ok(Written { section })
        })
    }

    /// Calls a device something.
    pub(super) fn rename(&self, device: &str, name: &str) -> Result<Written, String> {
        let Device::Mac(mac) = self.who(device)? else {
            return Err(format!(
                "nobody on the LAN has {device} now, and a device is called by its hardware address"
            ));
        };
        self.write(|page, _| {
            let section = page.rename(mac, name).map_err(|error| error.to_string())?;
            Ok(Written { section })
        })
    }

    /// Takes back what was decided by hand.
    pub(super) fn forget(&self, section: &str) -> Result<Written, String> {
        self.write(|page, _| {
            page.forget(section)?;
            Ok(Written { section: section.to_owned() })
        })
    }

    /// What `about` is about, and whom it concerns.
    fn read(&self, about: &About) -> Result<(Option<Subject>, Option<Device>), String> {
        let device = about.device.as_deref().filter(|device| !device.is_empty());
        let is_all = about.subject.is_empty() && device.is_some();
        let subject = if is_all { None } else { Some(about.subject.parse()?) };
        Ok((subject, device.map(|device| self.who(device)).transpose()?))
    }

    /// A device, by its hardware address where it is a neighbour on the LAN: it has other addresses beside the one
    /// that it is called by, and others tomorrow.
    fn who(&self, device: &str) -> Result<Device, String> {
        let device = one(device)?;
        let Device::Net(net) = &device else { return Ok(device) };
        if !net.is_host() {
            return Ok(device);
        }
        let neighbours = self.state.lock().of_lan();
        let found = neighbours.iter().find(|(_, neighbour)| Net::host(neighbour.addr) == *net);
        Ok(found.map_or(device, |(_, neighbour)| Device::Mac(Mac(neighbour.mac))))
    }

    fn decide(&self, wish: &Wish) -> Result<Written, String> {
        self.write(|page, _| {
            let section = page.write(wish).map_err(|error| error.to_string())?;
            Ok(Written { section })
        })
    }

    /// Changes the file and puts it into force. With a mistake in what it would be, it is not written;
    /// when it cannot be put into force, the text of before comes back.
    pub(super) fn write<T>(
        &self,
        edit: impl FnOnce(&mut Page, Option<i64>) -> Result<T, String>,
    ) -> Result<T, String> {
        let (mut edit, mut told) = (Some(edit), None);
        self.write_by(&mut |page, now_s| {
            if let Some(edit) = edit.take() {
                told = Some(edit(page, now_s)?);
            }
            Ok(())
        })?;
        told.ok_or_else(|| "nothing was decided".to_owned())
    }

    /// [`Running::write`], once for every kind of change.
    fn write_by(&self, edit: Edit<'_>) -> Result<(), String> {
        let (file, now_s, hash_key) = {
            let mut state = self.state.lock();
            state.may_write()?;
            let key = state.plan.dataplane.settings.hash_key;
            (state.file(), state.time_of_day(), key)
        };
        let mut prepared = None;
        let mut new = Vec::new();
        let old = store::change(&file, |text| {
            let editor = Editor::new(text).map_err(|error| error.to_string())?;
            let mut page = Page { editor, keeps_numbers: store::pending(PACKAGE).is_some() };
            edit(&mut page, now_s)?;
            // With a write that is needed anyway: flash wears.
            if page.editor.text() != text {
                page.sweep(now_s).map_err(|error| error.to_string())?;
            }
            page.editor.text().clone_into(&mut new);
            let read = Prepared::read(&new, &file, hash_key);
            prepared = Some(read.map_err(|mistakes| mistakes.join("\n"))?);
            Ok(new.clone())
        })
        .map_err(|error| error.to_string())?;
        if old.is_some()
            && let Some(prepared) = prepared
            && let Err(mistakes) = self.put_into_force(Ok(prepared))
        {
            self.bring_back(&file, &new, old);
            return Err(mistakes.join("\n"));
        }
        Ok(())
    }

    /// After a text that could not be put into force: the one of before is in the file again.
    pub(super) fn bring_back(&self, file: &Path, new: &[u8], old: Option<Vec<u8>>) {
        if let Some(old) = old {
            let restored = store::change(file, |now| {
                // What somebody else wrote meanwhile is his.
                Ok(if now == new { old } else { now.to_vec() })
            });
            if let Err(error) = restored {
                log::error!("{error}");
            }
        }
        // What the file says now is in force still, so this changes no more than what is shown.
        drop(self.reload());
    }
}

impl State {
    /// Says why nothing may stop what goes to or comes from `net`.
    pub(super) fn may_stop(&self, net: &Net) -> Result<(), String> {
        let lock_out = net.lock_out().map(|why| format!("{net} {why}"));
        lock_out.or_else(|| self.lists.spared(net)).map_or(Ok(()), Err)
    }

    /// Says why a device must not be paused: who manages the router would lock himself out.
    fn may_pause(&self, device: &Device) -> Result<(), String> {
        match device {
            Device::Net(net) => self.may_stop(net),
            Device::Mac(mac) => {
                let known = self.inspector.table.iter().filter_map(|record| record.decision.ends);
                let seen =
                    known.filter(|ends| ends.mac == Some(*mac)).map(|ends| ends.device.into());
                let neighbours = neighbours().into_iter();
                let neighbours = neighbours.filter(|(_, of)| of == mac).map(|(addr, _)| addr);
                let management = crate::plan::guard::own(&[], &[], &[], &[], &self.plan.management);
                let guard = Guard::new(&management);
                for address in neighbours.chain(seen) {
                    if let Some(own) = guard.hit(&Net::host(address)) {
                        return Err(format!(
                            "{mac} is not paused: it has {address}, and {} is {}",
                            own.addr, own.what
                        ));
                    }
                }
                Ok(())
            }
        }
    }

    /// When something ends that lasts so long.
    fn until(&mut self, seconds: Option<u32>) -> Result<Option<Moment>, String> {
        let Some(seconds) = seconds.filter(|seconds| *seconds != 0) else { return Ok(None) };
        let now_s = self.time_of_day().ok_or(
            "the time of day is not known yet, so nothing can be said to end: leave the time out, \
             or set option clock",
        )?;
        Ok(Some(Moment(now_s.saturating_add(seconds.into()))))
    }
}

fn one(device: &str) -> Result<Device, String> {
    device.parse().map_err(|why| format!("{} {why}", crate::text::plain(device)))
}

/// Neighbours of the router and their hardware addresses.
pub(super) fn neighbours() -> Vec<(IpAddr, Mac)> {
    let found = rtnetlink::neighbours()
        .inspect_err(|error| log::warn!("read the neighbours of this router: {error}"));
    let found = found.unwrap_or_default().into_iter();
    found.map(|Neighbour { addr, mac, .. }| (addr, Mac(mac))).collect()
}
