//! What somebody decided is written into the configuration, as a person would have written it, and
//! put into force by a reload. What the agent could not put into force is not left in the file.

use std::net::IpAddr;
use std::path::Path;

use super::running::{Running, State};
use crate::config::by_hand::{Page, Subject, Verb, Wish};
use crate::config::edit::Editor;
use crate::config::{Config, Device, Mac, Moment, Net, PACKAGE, store};
use crate::control::hand::{About, Written};
use crate::plan::Plan;
use crate::plan::guard::Guard;

/// Neighbours of the router and their hardware addresses.
const NEIGHBOURS: &str = "/proc/net/arp";

impl Running {
    /// Lets a subject pass that something blocks.
    pub(super) fn allow(&self, about: &About) -> Result<Written, String> {
        let (subject, device) = read(about)?;
        let (verb, until) = {
            let mut state = self.state.lock();
            let list = match &subject {
                Subject::Net(net) => state.blocklist_of(net),
                Subject::Domain(_) => None,
            };
            if let (Some(list), Some(_)) = (&list, &device) {
                return Err(format!(
                    "{subject} is on blocklist {list}, which counts for every device: allow it \
                     without a device"
                ));
            }
            let verb = if list.is_some() { Verb::Lift } else { Verb::Allow };
            (verb, state.until(about.seconds)?)
        };
        self.decide(&Wish { verb, subject: Some(subject), device, until })
    }

    /// Blocks what goes to a subject.
    pub(super) fn deny(&self, about: &About) -> Result<Written, String> {
        let (subject, device) = read(about)?;
        let until = {
            let mut state = self.state.lock();
            if let Subject::Net(net) = &subject {
                state.may_stop(net)?;
            }
            state.until(about.seconds)?
        };
        self.decide(&Wish { verb: Verb::Deny, subject: Some(subject), device, until })
    }

    /// Blocks everything of a device.
    pub(super) fn pause(&self, device: &str, seconds: Option<u32>) -> Result<Written, String> {
        let device = one(device)?;
        let until = {
            let mut state = self.state.lock();
            state.may_pause(&device)?;
            state.until(seconds)?
        };
        self.decide(&Wish { verb: Verb::Pause, subject: None, device: Some(device), until })
    }

    /// Ends a pause.
    pub(super) fn resume(&self, device: &str) -> Result<Written, String> {
        let device = one(device)?;
        let wish = Wish { verb: Verb::Pause, subject: None, device: Some(device), until: None };
        self.write(|page, _| {
            let section =
                page.find(&wish).ok_or_else(|| format!("{device} is not paused by hand"))?;
            page.forget(&section)?;
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
        let (file, now_s, hash_key) = {
            let mut state = self.state.lock();
            let key = state.plan.dataplane.settings.hash_key;
            (state.file.clone(), state.time_of_day(), key)
        };
        let mut told = None;
        let mut new = Vec::new();
        let old = store::change(&file, |text| {
            let editor = Editor::new(text).map_err(|error| error.to_string())?;
            let mut page = Page { editor, keeps_numbers: store::pending(PACKAGE).is_some() };
            told = Some(edit(&mut page, now_s)?);
            // With a write that is needed anyway: flash wears.
            if page.editor.text() != text {
                page.sweep(now_s).map_err(|error| error.to_string())?;
            }
            page.editor.text().clone_into(&mut new);
            check(&new, &file, hash_key)?;
            Ok(new.clone())
        })
        .map_err(|error| error.to_string())?;
        if let Some(old) = old
            && let Err(mistakes) = self.reload()
        {
            let restored = store::change(&file, |now| {
                // What somebody else wrote meanwhile is his.
                Ok(if now == new { old } else { now.to_vec() })
            });
            if let Err(error) = restored {
                log::error!("{error}");
            }
            // What the file says now is in force still, so this changes no more than what is shown.
            drop(self.reload());
            return Err(mistakes.join("\n"));
        }
        told.ok_or_else(|| "nothing was decided".to_owned())
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
                let text = std::fs::read_to_string(NEIGHBOURS).unwrap_or_default();
                let management = crate::plan::guard::own(&[], &[], &[], &[], &self.plan.management);
                let guard = Guard::new(&management);
                for address in neighbours(&text, *mac).into_iter().chain(seen) {
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

    /// The blocklist of the configuration that drops `net`, unless an allowlist lifts it.
    fn blocklist_of(&mut self, net: &Net) -> Option<String> {
        let why = self.why(&IpAddr::from(net.addr()).to_string()).ok()?;
        let is_lifted = why.causes.iter().any(|cause| cause.action == "allow");
        let drops = why
            .causes
            .iter()
            .find(|cause| cause.hook == "xdp" && cause.action == "drop" && !cause.by.contains('('));
        let name = drops?.by.strip_prefix("blocklist ").map(str::to_owned);
        if is_lifted { None } else { name }
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

fn read(about: &About) -> Result<(Subject, Option<Device>), String> {
    let device = about.device.as_deref().filter(|device| !device.is_empty());
    Ok((about.subject.parse()?, device.map(one).transpose()?))
}

fn one(device: &str) -> Result<Device, String> {
    device.parse().map_err(|why| format!("{} {why}", crate::text::plain(device)))
}

/// Whether the agent would take this text.
fn check(text: &[u8], file: &Path, hash_key: u32) -> Result<(), String> {
    let (config, _) =
        Config::parse(text, &file.to_string_lossy()).map_err(|error| error.to_string())?;
    let plan = Plan::new(&config, hash_key).map_err(|error| error.to_string())?;
    super::budget::of(&plan).check().map_err(|error| error.to_string()).map(drop)
}

/// The addresses of a device in the kernel's table of neighbours.
fn neighbours(text: &str, mac: Mac) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (address, hardware) = (words.next()?, words.nth(2)?);
        (hardware.parse() == Ok(mac)).then(|| address.parse().ok())?
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_among_neighbours() {
        let text = "IP address       HW type     Flags       HW address            Mask     Device\n\
                    192.168.1.10     0x1         0x2         02:00:5e:10:00:01     *        br-lan\n\
                    192.168.1.11     0x1         0x2         02:00:5e:10:00:02     *        br-lan\n\
                    odd\n192.168.1.12 0x1 0x2 02:00:5E:10:00:01 * br-lan\n";
        let found = neighbours(text, Mac([2, 0, 0x5e, 0x10, 0, 1]));
        let expected: Vec<IpAddr> =
            ["192.168.1.10", "192.168.1.12"].map(|text| text.parse().unwrap()).into();
        assert_eq!(found, expected);
    }
}
