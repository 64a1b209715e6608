//! A router with an agent, and a web server behind it that clients find by name.

use std::time::Duration;

use crate::agent::{Agent, Setup};
use crate::error::Result;
use crate::observe;
use crate::report::Flow;
use crate::router::{Build, Router};
use crate::service::{self, Dns, Family, Fetched, Web};

/// Limit of one download; emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(40);

/// The world with everything in it. Fields are dropped in order: the router last.
#[derive(Debug)]
pub struct Site {
    /// The web server.
    pub web: Web,
    /// What the names lead to it by.
    pub dns: Dns,
    /// The agent of the router.
    pub agent: Agent,
    /// The router and its hosts.
    pub world: Router,
}

impl Site {
    /// A router of the usual kind.
    pub fn new(names: &[&str], setup: Setup) -> Result<Self> {
        Self::built(Build::default(), names, setup)
    }

    /// A router of this kind.
    pub fn built(build: Build, names: &[&str], setup: Setup) -> Result<Self> {
        Self::around(Router::new(build)?, names, setup)
    }

    /// What is missing around a router.
    pub fn around(world: Router, names: &[&str], setup: Setup) -> Result<Self> {
        let (dns, web) = service::named(&world, names)?;
        let agent = Agent::start(&world, setup)?;
        Ok(Self { web, dns, agent, world })
    }

    /// What the first client gets.
    pub fn fetch(&self, family: Family, url: &str) -> Result<Fetched> {
        service::fetch(self.world.client(), family, url, LIMIT)
    }

    /// The flow from a client's port, once it is decided.
    pub fn flow(&self, port: u16) -> Result<Flow> {
        self.agent.wait_for_flow("decided", |flow| flow.sport == port)
    }

    /// Packets that went to a queue so far, as the kernel numbers them.
    pub fn queued(&self) -> Result<u64> {
        observe::queued(&self.world.netns)
    }
}
