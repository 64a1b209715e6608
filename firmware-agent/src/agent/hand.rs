//! Blocks that somebody asked for: one with an end is in the kernel alone, one without is written
//! into the configuration.

use sluice_abi::names::LIST_MANUAL;

use super::running::{Running, State};
use crate::cli::chain;
use crate::config::Net;
use crate::config::by_hand::PREFIX;
use crate::control::hand::{Blocked, Unblocked};
use crate::dataplane::blocklist::Listed;
use crate::sys::clock;

impl Running {
    /// Blocks an address or a prefix; without `seconds`, or with 0 of them, until it is lifted.
    pub(super) fn block(&self, subject: &str, seconds: Option<u32>) -> Result<Blocked, String> {
        let net = net(subject)?;
        let seconds = seconds.filter(|seconds| *seconds != 0);
        self.state.lock().may_block(&net)?;
        if let Some(seconds) = seconds {
            self.state.lock().block_for(net, seconds)?;
        } else {
            self.write(|page, _| page.block(&net).map_err(|error| error.to_string()))?;
        }
        // One that was automatic would else end at its own time.
        self.state.lock().strangers.lifted(&net);
        log::info!("{net} is blocked by hand");
        let section = seconds.is_none().then(|| PREFIX.to_owned());
        Ok(Blocked { entry: net.to_string(), seconds, section })
    }

    /// Lifts a block that was made by hand or automatically.
    pub(super) fn unblock(&self, subject: &str) -> Result<Unblocked, String> {
        let net = net(subject)?;
        let is_kept = self.state.lock().keeps(&net);
        if is_kept {
            self.write(|page, _| page.unblock(&net).map_err(|error| error.to_string()))?;
        }
        self.state.lock().unblock(&net, is_kept)?;
        log::info!("{net} is not blocked any more");
        Ok(Unblocked { entry: net.to_string() })
    }
}

impl State {
    /// Whether the blocklist of the configuration that is made by hand has this entry.
    fn keeps(&self, net: &Net) -> bool {
        self.plan.lists.iter().any(|list| &*list.name == PREFIX && list.entries.contains(net))
    }

    /// Says why `net` must not be blocked, or need not.
    fn may_block(&mut self, net: &Net) -> Result<(), String> {
        self.may_stop(net)?;
        if self.keeps(net) {
            return Ok(());
        }
        let listed = self.listed(net)?;
        if listed.is_some_and(|listed| listed.list < LIST_MANUAL) {
            return Err(format!("{net} is on a blocklist of the configuration already"));
        }
        Ok(())
    }

    fn block_for(&mut self, net: Net, seconds: u32) -> Result<(), String> {
        let expires_s = clock::monotonic_s().saturating_add(seconds);
        let Self { dataplane, sets, .. } = self;
        match dataplane.as_mut().filter(|dataplane| dataplane.blocklist.is_some()) {
            Some(dataplane) => {
                dataplane.block(net, LIST_MANUAL, expires_s).map_err(|error| error.chain())?;
            }
            None => sets.block(net, expires_s).map_err(|error| chain(&error))?,
        }
        self.mirror_blocks();
        self.empty_offload();
        Ok(())
    }

    /// Takes the entry out of the kernel that is not of the configuration.
    fn unblock(&mut self, net: &Net, was_kept: bool) -> Result<(), String> {
        match self.listed(net)? {
            None if was_kept => Ok(()),
            None => Err(format!("{net} is not blocked")),
            Some(listed) if listed.list < LIST_MANUAL => {
                Err(format!("{net} is on a blocklist of the configuration: change that"))
            }
            Some(_) => {
                let Self { dataplane, sets, .. } = self;
                match dataplane.as_mut().filter(|dataplane| dataplane.blocklist.is_some()) {
                    Some(dataplane) => {
                        dataplane.unblock(*net).map_err(|error| error.chain())?;
                    }
                    None => sets.unblock(net).map_err(|error| chain(&error))?,
                }
                self.strangers.lifted(net);
                self.mirror_blocks();
                Ok(())
            }
        }
    }

    /// The entry for exactly this prefix, as far as it is in force.
    fn listed(&self, net: &Net) -> Result<Option<Listed>, String> {
        let (address, now_s) = (net.addr().into(), clock::monotonic_s());
        let found = match self.dataplane.as_ref().and_then(|all| all.blocklist.as_ref()) {
            Some(blocklist) => blocklist.lookup(address, now_s).map_err(|error| error.chain())?,
            None if self.sets.is_active() => self.sets.lookup(address, now_s),
            None if self.dataplane.is_none() => {
                return Err("no program runs that could block".to_owned());
            }
            None => return Err("no shield runs that could block".to_owned()),
        };
        Ok(found.filter(|listed| listed.net == *net))
    }
}

fn net(subject: &str) -> Result<Net, String> {
    subject.parse().ok().ok_or_else(|| format!("{subject} is neither an address nor a prefix"))
}
