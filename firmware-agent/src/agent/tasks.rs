//! The tasks that take turns while the parts run.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use smol::{LocalExecutor, Timer, future};

use super::running::{Next, Running, State};
use super::signals::{Signals, Wish};
use super::unattended::BEAT;
use crate::cli::{Exit, Failed, chain};
use crate::control::report::Status;
use crate::control::server::{Methods, Server};
use crate::control::{Answer, Request};
use crate::netfilter::watch::Watch;
use crate::sys::{clock, rtnetlink};

/// Least time between two looks at the rules, so that a flood of changes by others costs little.
const RULES_PAUSE: Duration = Duration::from_millis(200);
/// A device comes with several messages: time for them all.
const LINKS_SETTLE: Duration = Duration::from_millis(50);
/// Least time between two looks at devices and addresses.
const LINKS_PAUSE: Duration = Duration::from_millis(400);
/// Time between two looks at what the shield noted.
const STRANGERS_PAUSE: Duration = Duration::from_secs(1);

impl Running {
    /// Runs the tasks until one of them says what comes next.
    pub(super) async fn serve(
        self: &Rc<Self>,
        executor: &LocalExecutor<'static>,
        server: &Server,
        signals: &Signals,
    ) -> Next {
        let fail = |what: &str, error: &dyn std::error::Error| {
            Next::Fail(Failed { exit: Exit::Failure, message: format!("{what}: {}", chain(error)) })
        };
        let queue = async {
            let failure = self.workers.failure();
            match failure.recv().await {
                Ok(error) => fail("read the queue", &error),
                // There are no workers.
                Err(_) => future::pending().await,
            }
        };
        let rules = async {
            // Without the listener rules are only looked at with every sweep.
            if let Err(error) = self.guard_rules().await {
                log::warn!("listen for changes of the rules: {error}");
            }
            future::pending().await
        };
        let links = async {
            // Without the listener devices are only looked at with every sweep.
            if let Err(error) = self.follow_links().await {
                log::warn!("listen for changes of devices: {error}");
            }
            future::pending().await
        };
        let control = async {
            let methods: Rc<dyn Methods> = Rc::clone(self) as Rc<dyn Methods>;
            fail("serve the control socket", &server.serve(executor, methods).await)
        };
        let outside = async {
            match self.obey(signals).await {
                Ok(()) => Next::Stop,
                Err(error) => fail("read signals", &error),
            }
        };
        let anew = async { self.restart.1.recv().await.map_or(Next::Stop, Next::Restart) };
        let watch = self.watch_strangers();
        let sweep = future::or(future::or(self.sweep(), watch), self.follow_names());
        let sweep = future::or(self.beat(), sweep);
        let sweep = future::or(self.follow_bus(), sweep);
        let sweep = future::or(self.follow_leases(), sweep);
        let tell = future::or(self.tell(), self.run_hook());
        let tell = future::or(tell, self.offer_figures(executor));
        let sweep = future::or(tell, sweep);
        future::or(
            future::or(future::or(outside, anew), future::or(queue, control)),
            future::or(future::or(rules, links), sweep),
        )
        .await
    }

    async fn sweep(&self) -> Next {
        loop {
            let pause = self.state.lock().plan.sweep;
            Timer::after(pause).await;
            let mut state = self.state.lock();
            let State { inspector, dataplane, .. } = &mut *state;
            let flows = dataplane.as_mut().and_then(|dataplane| dataplane.flows.as_mut());
            inspector.sweep(clock::monotonic_ns(), flows);
            state.empty_offload();
            state.look_after_interfaces();
            state.look_around();
            state.restore_rules();
            state.look_after_sets();
            state.look_after_offload();
            state.look_after_flowtable();
        }
    }

    /// Tells the programs that packets of the queue are answered: while others keep this thread busy
    /// they are not, and nothing is told.
    async fn beat(&self) -> Next {
        loop {
            let have_turned = self.workers.have_turned();
            {
                let mut state = self.state.lock();
                state.attend(have_turned);
                let State { inspector, dataplane, .. } = &mut *state;
                let flows = dataplane.as_mut().and_then(|dataplane| dataplane.flows.as_mut());
                inspector.complete(flows);
            }
            Timer::after(BEAT).await;
        }
    }

    async fn watch_strangers(&self) -> Next {
        loop {
            Timer::after(STRANGERS_PAUSE).await;
            self.look_at_clock();
            self.look_at_trial();
            let mut state = self.state.lock();
            let State { strangers, dataplane, plan, .. } = &mut *state;
            if let Some(dataplane) = dataplane
                && plan.enabled
            {
                strangers.look(dataplane, plan);
            }
            state.mirror_blocks();
            state.empty_offload();
        }
    }

    /// Brings the rules to where the time of day has them.
    fn look_at_clock(&self) {
        {
            let mut state = self.state.lock();
            state.end_allowed();
            if !state.is_time() {
                return;
            }
        }
        let mut held = self.workers.hold();
        let mut state = self.state.lock();
        state.look_at_clock();
        held.take(&mut state.inspector);
    }

    async fn guard_rules(&self) -> io::Result<()> {
        let mut watch = Watch::open()?;
        loop {
            watch.changed().await?;
            {
                let mut state = self.state.lock();
                state.restore_rules();
                state.restore_sets();
                state.look_after_flowtable();
            }
            Timer::after(RULES_PAUSE).await;
        }
    }

    /// Follows devices that come, go or change, and addresses that the lists have to spare.
    async fn follow_links(&self) -> io::Result<()> {
        let mut watch = rtnetlink::Watch::open()?;
        loop {
            let first = watch.changed().await?;
            Timer::after(LINKS_SETTLE).await;
            let more = watch.drain()?;
            {
                let mut state = self.state.lock();
                if first.links || more.links {
                    state.look_after_interfaces();
                }
                // The other end of a link counts as well, and goes with it.
                state.look_around();
                state.look_after_sets();
            }
            Timer::after(LINKS_PAUSE).await;
        }
    }

    async fn obey(&self, signals: &Signals) -> io::Result<()> {
        loop {
            match signals.next().await? {
                Wish::Stop => return Ok(()),
                // The mistakes are in the log and in `status`.
                Wish::Reload => drop(self.reload()),
            }
        }
    }
}

impl Running {
    pub(super) fn status(&self) -> Status {
        // Who holds the state never waits for a worker.
        let work = self.workers.work();
        self.state.lock().status(&work)
    }
}

impl Methods for Running {
    fn call(&self, request: Request) -> Result<Answer, String> {
        match request {
            Request::Status {} => Answer::new(&self.status()),
            Request::Alerts {} => Answer::new(&self.state.lock().alerts()),
            Request::Flows {} => Answer::new(&self.state.lock().flows()),
            Request::Events {} => Answer::new(&self.state.lock().events()),
            Request::EventPage(question) => Answer::new(&self.state.lock().event_page(&question)?),
            Request::Archive(which) => Answer::new(&self.state.lock().archive(&which)?),
            Request::Mute { kind } => Answer::new(&self.mute(&kind, true)?),
            Request::Unmute { kind } => Answer::new(&self.mute(&kind, false)?),
            Request::Why { subject } => Answer::new(&self.state.lock().why(&subject)?),
            Request::Reload {} => {
                let reloaded = self.reload().map_err(|mistakes| mistakes.join("\n"))?;
                Answer::new(&reloaded)
            }
            Request::Apply(wish) => Answer::new(&self.apply(&wish)?),
            Request::Confirm {} => Answer::new(&self.confirm()?),
            Request::Rollback {} => Answer::new(&self.roll_back("somebody asked for that")?),
            Request::FlowPage(part) => Answer::new(&self.state.lock().flow_page(part)),
            Request::Devices(part) => Answer::new(&self.state.lock().device_page(part)),
            Request::Block { subject, seconds } => Answer::new(&self.block(&subject, seconds)?),
            Request::Unblock { subject } => Answer::new(&self.unblock(&subject)?),
            Request::Allow(about) => Answer::new(&self.allow(&about)?),
            Request::Deny(about) => Answer::new(&self.deny(&about)?),
            Request::Pause(hold) => Answer::new(&self.pause(&hold)?),
            Request::Limit(hold) => Answer::new(&self.limit(&hold)?),
            Request::Resume { device } => Answer::new(&self.resume(&device)?),
            Request::Rename { device, name } => Answer::new(&self.rename(&device, &name)?),
            Request::Forget { section } => Answer::new(&self.forget(&section)?),
            Request::Features {} => Answer::new(&self.state.lock().switches()?),
            Request::Enable { name } => Answer::new(&self.switch(&name, true, false)?),
            Request::Disable { name, force } => Answer::new(&self.switch(&name, false, force)?),
        }
    }
}
