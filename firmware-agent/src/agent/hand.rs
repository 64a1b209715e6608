//! Blocks that somebody asked for: they hold until they are lifted, until their time is over, or
//! until the agent is stopped.

use sluice_abi::names::LIST_MANUAL;

use super::running::State;
use crate::config::Net;
use crate::control::hand::{Blocked, Unblocked};
use crate::dataplane::Dataplane;
use crate::dataplane::blocklist::Listed;
use crate::sys::clock;

impl State {
    /// Blocks an address or a prefix; without `seconds`, or with 0 of them, until it is lifted.
    pub(super) fn block_by_hand(
        &mut self,
        subject: &str,
        seconds: Option<u32>,
    ) -> Result<Blocked, String> {
        let net = net(subject)?;
        let lock_out = net.lock_out().map(|why| format!("{net} {why}"));
        if let Some(why) = lock_out.or_else(|| self.lists.spared(&net)) {
            return Err(why);
        }
        let (dataplane, listed) = self.listed(&net)?;
        if listed.is_some_and(|listed| listed.list < LIST_MANUAL) {
            return Err(format!("{net} is on a blocklist of the configuration already"));
        }
        let seconds = seconds.filter(|seconds| *seconds != 0);
        let expires_s = seconds.map_or(0, |left| clock::monotonic_s().saturating_add(left));
        dataplane.block(net, LIST_MANUAL, expires_s).map_err(|error| error.chain())?;
        // One that was automatic would else end at its own time.
        self.strangers.lifted(&net);
        log::info!("{net} is blocked by hand");
        Ok(Blocked { entry: net.to_string(), seconds })
    }

    /// Lifts a block that was made by hand or automatically.
    pub(super) fn unblock_by_hand(&mut self, subject: &str) -> Result<Unblocked, String> {
        let net = net(subject)?;
        let (dataplane, listed) = self.listed(&net)?;
        match listed {
            None => Err(format!("{net} is not blocked")),
            Some(listed) if listed.list < LIST_MANUAL => {
                Err(format!("{net} is on a blocklist of the configuration: change that"))
            }
            Some(_) => {
                dataplane.unblock(net).map_err(|error| error.chain())?;
                self.strangers.lifted(&net);
                log::info!("{net} is not blocked any more");
                Ok(Unblocked { entry: net.to_string() })
            }
        }
    }

    /// The entry for exactly this prefix, as far as it is in force.
    fn listed(&mut self, net: &Net) -> Result<(&mut Dataplane, Option<Listed>), String> {
        let dataplane = self.dataplane.as_mut().ok_or("no program runs that could block")?;
        let blocklist = dataplane.blocklist.as_ref().ok_or("no shield runs that could block")?;
        let found = blocklist.lookup(net.addr().into(), clock::monotonic_s());
        let listed = found.map_err(|error| error.chain())?.filter(|listed| listed.net == *net);
        Ok((dataplane, listed))
    }
}

fn net(subject: &str) -> Result<Net, String> {
    subject.parse().ok().ok_or_else(|| format!("{subject} is neither an address nor a prefix"))
}
