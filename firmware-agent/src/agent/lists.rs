//! The lists on their way into the kernel: without the entries that would cut the router off.
//!
//! Addresses come and go with leases and links, so what is left out is decided again when they do.

use crate::config::Net;
use crate::dataplane::{Dataplane, Error};
use crate::plan::Plan;
use crate::plan::guard::{self, LeftOut, Own};
use crate::sys::netlink::RequestError;
use crate::sys::rtnetlink;

/// Entries that are shown one by one; the rest is counted.
const SHOWN_MAX: usize = 16;

/// What is known about the router's addresses, and what the lists do without because of it.
#[derive(Debug, Default)]
pub(super) struct Lists {
    own: Vec<Own>,
    /// With the number of the list.
    left_out: Vec<(u32, LeftOut)>,
    /// What `status` shows of it.
    warnings: Vec<String>,
}

impl Lists {
    /// Looks at the router's addresses again. `true` when they have changed, so that the lists
    /// should be set again.
    pub(super) fn look(&mut self) -> bool {
        match own() {
            Ok(own) if own == self.own => false,
            Ok(own) => {
                self.own = own;
                true
            }
            Err(error) => {
                // Those of before are a better guess than none.
                log::warn!("read the addresses of this router: {error}");
                false
            }
        }
    }

    /// Puts the lists of `plan` into force, and what lifts them before that. With an error nothing
    /// has changed.
    pub(super) fn set(&mut self, dataplane: &mut Dataplane, plan: &Plan) -> Result<(), Error> {
        let mut left_out = Vec::new();
        let mut kept: Vec<Vec<Net>> = Vec::new();
        for (number, (_, nets)) in (0..).zip(&plan.lists) {
            let (nets, without) = guard::divide(nets, &self.own);
            left_out.extend(without.into_iter().map(|entry| (number, entry)));
            kept.push(nets);
        }
        let lists: Vec<(u32, &[Net])> = (0..).zip(kept.iter().map(Vec::as_slice)).collect();
        if let Some(blocklist) = &mut dataplane.blocklist {
            // What lifts a list is there before the list.
            blocklist.sync_allowed(&plan.allowed)?;
        }
        dataplane.set_lists(&lists)?;
        let warnings = warnings(&left_out, plan);
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            log::warn!("{warning}");
        }
        (self.left_out, self.warnings) = (left_out, warnings);
        Ok(())
    }

    /// What is left out, for people.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many entries of the list `number` are left out.
    pub(super) fn left_out(&self, number: u32) -> usize {
        self.left_out.iter().filter(|(list, _)| *list == number).count()
    }
}

fn warnings(left_out: &[(u32, LeftOut)], plan: &Plan) -> Vec<String> {
    let shown = left_out.iter().take(SHOWN_MAX).map(|(number, LeftOut { net, own })| {
        let list = plan.lists.get(*number as usize).map_or("", |(name, _)| name);
        let (addr, what) = (own.addr, &own.what);
        format!("sluice.{list}: {net} is left out: it would block {addr}, {what}")
    });
    let more = left_out.len().saturating_sub(SHOWN_MAX);
    let rest = (more > 0).then(|| format!("{more} more entries are left out of the lists"));
    shown.chain(rest).collect()
}

fn own() -> Result<Vec<Own>, RequestError> {
    Ok(guard::own(
        &rtnetlink::devices()?,
        &rtnetlink::addresses()?,
        &rtnetlink::default_gateways()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_flood_of_entries_that_are_left_out_is_counted() {
        let text = "config interface a\noption device a\noption role wan\n\
                    config interface b\noption device b\noption role lan\n\
                    config blocklist bad\nlist entry 192.0.2.1\n";
        let (config, _) = Config::parse(text.as_bytes(), "f").unwrap();
        let plan = Plan::new(&config, 0).unwrap();
        let own = Own { addr: "192.0.2.1".parse().unwrap(), what: "an address of wan".to_owned() };
        let entry = (0, LeftOut { net: "192.0.2.0/24".parse().unwrap(), own });
        assert_eq!(warnings(&[], &plan), [""; 0]);
        let one = warnings(std::slice::from_ref(&entry), &plan);
        assert_eq!(
            one,
            ["sluice.bad: 192.0.2.0/24 is left out: it would block 192.0.2.1, an address of wan"]
        );
        let many = warnings(&vec![entry; SHOWN_MAX + 3], &plan);
        assert_eq!(many.len(), SHOWN_MAX + 1);
        assert_eq!(many[SHOWN_MAX], "3 more entries are left out of the lists");
    }
}
