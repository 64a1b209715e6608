//! The agent: builds the parts, connects them, brings them from one configuration to the next, and
//! takes everything down again.
//!
//! The only module that knows the others. Tasks take turns in one thread, workers read the queues in
//! threads of their own; none holds the shared state while it waits.

mod around;
mod book;
mod budget;
mod bus;
mod ddos;
mod decide;
mod desk;
mod devices;
mod domains;
mod drops;
mod events;
mod features;
mod hand;
mod inspector;
mod leases;
mod ledger;
mod lists;
mod lock;
mod names;
mod notices;
mod observing;
mod offload;
mod pace;
mod pause;
mod record;
mod reload;
mod report;
mod requests;
mod rules;
mod running;
mod scrape;
mod seed;
mod sets;
mod signals;
mod signatures;
mod sweep;
mod switch;
mod tally;
mod tasks;
mod trial;
mod unattended;
mod upkeep;
mod why;
mod workers;

use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;

use smol::{LocalExecutor, future};

use self::running::{Legacy, Next, Running};
pub use self::signatures::{Refused, rulesets};
use self::trial::Trial;
use crate::cli::{Exit, Failed};
use crate::config::{Config, OnCrash, in_force};
use crate::control::report::{Checked, Feature};
use crate::control::server::{ServeError, Server};
use crate::dataplane::Dataplane;
use crate::dataplane::object::Objects;
use crate::kernel::Report;
use crate::netfilter::{apply, shield};
use crate::plan::Plan;
use crate::sys::clock;

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// Runs the agent with the configuration in `file` until it is told to stop.
pub fn run(file: &Path) -> Result<(), Failed> {
    let started_ns = clock::monotonic_ns();
    crate::sys::log::start(log::LevelFilter::Info);
    // Before any thread starts, so that all of them leave signals to the task that reads them.
    let signals = signals::Signals::take().map_err(|error| Failed::new(Exit::Failure, &error))?;
    let mut legacy = Legacy { trial: Trial::at_start(&in_force(file)), ..Legacy::default() };
    let (config, warnings) = Config::load_for(&in_force(file), budget::ram())
        .map_err(|error| Failed::new(Exit::Config, &error))?;
    crate::sys::log::start(config.main.log_level);
    let report = Report::of_this_kernel();
    // Without programs lists can be in sets of nftables, and connections in the queue.
    if let Some(obstacle) = report.obstacle().filter(|_| shield::probe().is_err()) {
        return Err(Failed { exit: Exit::Denied, message: obstacle });
    }
    let hash_key =
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), started_ns) as u32;
    let mut plan =
        Plan::new(&config, hash_key).map_err(|error| Failed::new(Exit::Config, &error))?;
    budget::of(&plan).check().map_err(|error| Failed::new(Exit::Config, &error))?;
    let mut warnings = warnings.iter().map(ToString::to_string).collect();
    let mut generation = 1;
    // What the agent before a restart of its own has pinned for this one.
    let mut handed_over = None;
    loop {
        let server = Server::open(&plan.run_dir).map_err(|error| {
            let exit = if matches!(error, ServeError::Running { .. }) {
                Exit::Running
            } else {
                Exit::Failure
            };
            Failed::new(exit, &error)
        })?;
        let objects = Objects { xdp_shield: XDP_SHIELD, tc_flow: TC_FLOW, xdp_device: XDP_DEVICE };
        let wish = (plan.dataplane.on_crash, plan.dataplane.pin_dir.clone());
        let started = Running::start(plan, objects, report, warnings, generation, started_ns, file);
        let running = started.inspect_err(|_| clear(handed_over.as_deref()))?;
        running.state.lock().inherit(legacy);
        let running = Rc::new(running);
        let executor = LocalExecutor::new();
        let next = future::block_on(executor.run(running.serve(&executor, &server, &signals)));
        drop(executor);
        let running = Rc::into_inner(running).ok_or_else(|| Failed {
            exit: Exit::Failure,
            message: "a task outlived the executor".to_owned(),
        })?;
        match next {
            Next::Stop => return running.stop(),
            Next::Fail(failed) => {
                running.abandon();
                return Err(failed);
            }
            Next::Restart(new) => {
                (plan, warnings, generation) = (new.plan, new.warnings, new.generation);
                legacy = running.hand_over(&plan)?;
                handed_over = (wish.0 == OnCrash::Detach).then_some(wish.1);
            }
        }
    }
}

/// Reads the configuration as a start would, and says what is odd and what memory it can take.
pub fn check(file: &Path) -> Result<Checked, Failed> {
    let (config, warnings) = Config::load_for(&in_force(file), budget::ram())
        .map_err(|error| Failed::new(Exit::Config, &error))?;
    let plan = Plan::new(&config, 0).map_err(|error| Failed::new(Exit::Config, &error))?;
    let budget = budget::of(&plan).check().map_err(|error| Failed::new(Exit::Config, &error))?;
    Ok(Checked {
        warnings: warnings.iter().map(ToString::to_string).collect(),
        budget: budget::report(&budget),
    })
}

/// Takes away what was pinned for a start that failed.
fn clear(pin_dir: Option<&Path>) {
    if let Some(Err(error)) = pin_dir.map(Dataplane::clear) {
        log::warn!("{}", error.chain());
    }
}

/// Lets packets past the queue of the agent at the other end of standard input when it falls silent.
pub fn watchdog(kind: &str, marks: &str) -> Result<(), Failed> {
    let usage = || Failed { exit: Exit::Usage, message: "only the agent starts this".to_owned() };
    let kind = apply::Kind::from_name(kind).ok_or_else(usage)?;
    let marks = marks.parse().ok().ok_or_else(usage)?;
    crate::sys::log::start(log::LevelFilter::Info);
    std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|input| apply::watch(kind, marks, input))
        .map_err(|error| Failed::new(Exit::Failure, &error))
}

/// What this kernel can do, for `sluice doctor`.
#[must_use]
pub fn doctor() -> Vec<Feature> {
    let mut features = features::probes(Report::of_this_kernel());
    features.push(bus::probe());
    features
}
