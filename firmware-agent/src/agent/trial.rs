//! A configuration that is put into force on trial: without a word in time, the one of before comes
//! back. Who has locked himself out cannot say that word.

use std::net::IpAddr;
use std::path::Path;

use super::around::Around;
use super::decide::neighbours;
use super::reload::Prepared;
use super::running::{Running, State};
use crate::config::pending::{Pending, Undone};
use crate::config::{Net, read_whole, store};
use crate::control::hand::{Applied, Apply};
use crate::plan::lockout;
use crate::sys::clock;

/// Seconds for a change that could lock somebody out.
const WAIT_S: u32 = 60;
/// Longest time that can be asked for.
const WAIT_MAX_S: u32 = 3600;
/// Time to the next try when the file could not be written.
const AGAIN_NS: u64 = 5_000_000_000;

/// What waits, and what became of what waited before.
#[derive(Debug, Default)]
pub(super) struct Trial {
    waiting: Option<Waiting>,
    /// For people.
    told: Option<String>,
}

#[derive(Debug)]
struct Waiting {
    pending: Pending,
    deadline_ns: u64,
    seconds: u32,
}

impl Trial {
    /// Before the configuration is read for the first time: brings back what was there before one
    /// that nobody has confirmed.
    pub(super) fn at_start(file: &Path) -> Self {
        let told = match Pending::left_behind(file) {
            Ok(None) => None,
            Ok(Some(pending)) => match pending.undo(file) {
                Ok(undone) => Some(ended(undone, "the agent ended before")),
                Err(error) => Some(format!("a configuration that nobody confirmed stays: {error}")),
            },
            // A file that is not there has nothing beside it.
            Err(_) if !file.exists() => None,
            Err(error) => Some(format!("look for a configuration that nobody confirmed: {error}")),
        };
        if let Some(told) = &told {
            log::warn!("{told}");
        }
        Self { waiting: None, told }
    }

    /// What `status` shows of it.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let waits = self.waiting.as_ref().map(|waiting| {
            let left = waiting.deadline_ns.saturating_sub(clock::monotonic_ns()) / 1_000_000_000;
            format!(
                "this configuration is on trial for {left} more seconds: `sluice confirm` keeps it, \
                 `sluice rollback` ends it"
            )
        });
        self.told.iter().cloned().chain(waits)
    }

    /// A configuration is in force, so what was told of others is not news any more.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }
}

/// What became of a configuration that was not confirmed, for people.
fn ended(undone: Undone, why: &str) -> String {
    match undone {
        Undone::Back => format!(
            "the configuration that was applied was not confirmed, {why}: the one of before is back"
        ),
        Undone::Nothing => "a configuration that was to be applied never was".to_owned(),
        Undone::Theirs => format!(
            "the configuration that was applied was not confirmed, {why}, but the file has been \
             changed since: it stays as it is"
        ),
    }
}

impl Running {
    /// Puts a file in the place of the configuration and into force.
    pub(super) fn apply(&self, wish: &Apply) -> Result<Applied, String> {
        let (config, hash_key) = {
            let state = self.state.lock();
            state.may_write()?;
            (state.file(), state.plan.dataplane.settings.hash_key)
        };
        if wish.confirm.is_some_and(|seconds| seconds > WAIT_MAX_S) {
            return Err(format!("{WAIT_MAX_S} seconds are the longest time to confirm"));
        }
        let file = Path::new(&wish.file);
        if !file.is_absolute() {
            return Err(format!("{}: is no absolute path", file.display()));
        }
        let new = read_whole(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let lines = |mistakes: Vec<String>| mistakes.join("\n");
        let mut prepared = Prepared::read(&new, file, hash_key).map_err(lines)?;
        prepared.rename(file, &config);
        let risks = self.risks(&prepared, wish.from.as_deref());
        let seconds = wish.confirm.or_else(|| (!risks.is_empty()).then_some(WAIT_S));
        let seconds = seconds.filter(|seconds| *seconds != 0);
        let mut pending = None;
        let old = store::change(&config, |old| {
            if old == new && seconds.is_some() {
                return Err(format!(
                    "{} says that already, so there is nothing to go back to: `sluice reload` puts \
                     it into force",
                    config.display()
                ));
            }
            if seconds.is_some() {
                Prepared::read(old, &config, hash_key).map_err(|mistakes| {
                    format!("there is nothing to go back to: {}", lines(mistakes))
                })?;
                let kept = Pending::write(&config, old, &new);
                let beside = |error| format!("keep {} beside it: {error}", config.display());
                pending = Some(kept.map_err(beside)?);
            }
            Ok(new.clone())
        });
        let in_force = match old {
            Err(error) => Err(error.to_string()),
            Ok(old) => self.put_into_force(Ok(prepared)).map_err(|mistakes| {
                self.bring_back(&config, &new, old);
                lines(mistakes)
            }),
        };
        let reloaded = in_force.inspect_err(|_| {
            if let Some(Err(error)) = pending.as_ref().map(Pending::keep) {
                log::error!("{error}");
            }
        })?;
        let seconds = seconds.filter(|_| pending.is_some());
        if let (Some(pending), Some(seconds)) = (pending, seconds) {
            for risk in &risks {
                log::warn!("{risk}");
            }
            log::warn!("the configuration is on trial for {seconds} s");
            let deadline_ns = clock::monotonic_ns() + u64::from(seconds) * 1_000_000_000;
            self.state.lock().trial.waiting = Some(Waiting { pending, deadline_ns, seconds });
        }
        Ok(Applied { confirm_s: seconds, risks, ..reloaded })
    }

    /// Why the new configuration could lock out who manages the router.
    fn risks(&self, prepared: &Prepared, from: Option<&str>) -> Vec<String> {
        let caller = from.and_then(|from| from.parse::<IpAddr>().ok());
        let caller = caller.map(|caller| caller.to_canonical()).filter(|ip| !ip.is_loopback());
        let around = Around::look().unwrap_or_default();
        let devices = &around.devices;
        let networks = around.addresses.iter().filter_map(|address| {
            let device = devices.iter().find(|device| device.ifindex == address.ifindex)?;
            let addr = address.peer.unwrap_or(address.addr);
            let mapped = if addr.is_ipv4() { 96 } else { 0 };
            let net = Net::new(addr.into(), mapped + address.prefix);
            Some((net, device.name.clone()))
        });
        let networks = networks.collect();
        let around = lockout::Around { caller, neighbours: neighbours(), networks };
        lockout::risks(&self.state.lock().plan, &prepared.plan, &around)
    }

    /// What is on trial stays.
    pub(super) fn confirm(&self) -> Result<String, String> {
        let mut state = self.state.lock();
        let waiting = state.trial.waiting.take().ok_or(NOTHING)?;
        if let Err(error) = waiting.pending.keep() {
            state.trial.waiting = Some(waiting);
            return Err(error.to_string());
        }
        log::info!("the configuration that was applied is confirmed");
        Ok("the configuration stays".to_owned())
    }

    /// What was before what is on trial comes back.
    pub(super) fn roll_back(&self, why: &str) -> Result<String, String> {
        let (config, waiting) = {
            let mut state = self.state.lock();
            (state.file(), state.trial.waiting.take().ok_or(NOTHING)?)
        };
        let undone = match waiting.pending.undo(&config) {
            Ok(undone) => undone,
            Err(error) => {
                let deadline_ns = clock::monotonic_ns() + AGAIN_NS;
                let waiting = Waiting { deadline_ns, ..waiting };
                self.state.lock().trial.waiting = Some(waiting);
                log::error!("{error}");
                return Err(error.to_string());
            }
        };
        // Also where the file is somebody else's by now: what is in force was not confirmed.
        let reloaded = self.reload();
        let told = ended(undone, why);
        log::warn!("{told}");
        self.state.lock().trial.told = Some(told.clone());
        reloaded.map_err(|mistakes| mistakes.join("\n"))?;
        Ok(told)
    }

    /// Ends a trial whose time is over.
    pub(super) fn look_at_trial(&self) {
        let over = {
            let state = self.state.lock();
            let waiting = state.trial.waiting.as_ref();
            let over = waiting.filter(|waiting| waiting.deadline_ns <= clock::monotonic_ns());
            over.map(|waiting| waiting.seconds)
        };
        if let Some(seconds) = over {
            // What failed is in the log.
            let _ = self.roll_back(&format!("{seconds} s are over"));
        }
    }
}

const NOTHING: &str = "no configuration waits for a confirmation";

impl State {
    /// Says why the configuration must not be changed now: the change would be taken for somebody's
    /// own, and what is on trial would stay.
    pub(super) fn may_write(&self) -> Result<(), String> {
        match &self.trial.waiting {
            None => Ok(()),
            Some(_) => Err("a configuration is on trial: `sluice confirm` keeps it, `sluice \
                            rollback` ends it"
                .to_owned()),
        }
    }
}
