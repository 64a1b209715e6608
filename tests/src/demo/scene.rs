//! Who is on stage, and what they do.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::say;
use super::throughput::{self, Rates};
use crate::agent::Agent;
use crate::error::Result;
use crate::host::Host;
use crate::process::{self, Daemon};
use crate::report::{Flow, Status};
use crate::router::{Build, Router, WAN_V4};
use crate::service::{Dns, Family, Fetched, Web, fetch, page};
use crate::throughput::Way;

/// Names that lead to the server; `ads.test` and `tracker.test` are blocked by the example.
const NAMES: [&str; 5] = ["news.test", "video.test", "shop.test", "ads.test", "tracker.test"];
/// The configuration, as it lies in the repository.
const CONFIG: &str = include_str!("../../../config/examples/demo.uci");
/// A source that the example lists.
const LISTED: &str = "198.51.100.7";
/// A source beside it that is not listed.
const NEIGHBOUR: &str = "198.51.100.8";
/// SYN packets of the flood.
const FLOOD: u32 = 10_000;
/// Limit of one visit.
const LIMIT: Duration = Duration::from_secs(15);
/// Limit of one that will fail.
const SHORT: Duration = Duration::from_secs(2);

/// The running world.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) agent: Agent,
    _dns: Dns,
    _web: Web,
    _home: Daemon,
    plain: Option<Router>,
    pub(super) world: Router,
}

/// A visit to a web server.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Who.
    pub(super) who: &'static str,
    /// Where to.
    pub(super) url: String,
    /// How.
    pub(super) family: Family,
    /// Whether it should work.
    pub(super) wanted: bool,
    /// What came of it.
    pub(super) fetched: Fetched,
}

/// What happened, for the summary.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Visits in order.
    pub(super) visits: Vec<Visit>,
    /// Whether a stranger reached the server at home during the flood.
    pub(super) stranger_served: bool,
    /// SYN packets sent by the flood.
    pub(super) flood: u32,
    /// Decided flows.
    pub(super) flows: Vec<Flow>,
    /// Status at the end of the play.
    pub(super) status: Status,
    /// Questions to the agent and its answers.
    pub(super) answers: Vec<(String, String)>,
    /// The comparison.
    pub(super) rates: Option<Rates>,
}

impl Scene {
    /// Builds everything; `twin` for the comparison as well.
    pub(super) fn set(twin: bool) -> Result<Self> {
        process::need(&["hping3", "curl", "busybox"])?;
        say("Sluice demo: a router in network namespaces, real programs on both sides of it\n");
        say("[1/5] building the router and its neighbours");
        say("        LAN   192.168.77.0/24  fd77::/64          client1, client2");
        say("        WAN   203.0.113.0/24   2001:db8:77::/64   server, attacker");
        let build = Build { clients: 2, ..Build::default() };
        let world = Router::new(build)?;
        world.attacker.add_addresses(&[
            &format!("{LISTED}/24"),
            &format!("{NEIGHBOUR}/24"),
            "2001:db8:bad::7/64",
        ])?;
        world.netns.ip(&format!(
            "route add 198.51.100.0/24 via {}\nroute add 2001:db8:bad::/48 via {}\n",
            world.attacker.v4, world.attacker.v6,
        ))?;

        say("[2/5] starting dnsmasq on the router, nginx on the server, a web server at home");
        let dns = Dns::start(&world, &NAMES)?;
        let web = Web::start(&world.server, &NAMES)?;
        let home = home_server(world.client(), &world)?;
        let plain = twin.then(|| Router::new(build)).transpose()?;

        say("[3/5] starting Sluice on the router with config/examples/demo.uci");
        let agent = Agent::start_with(&world, CONFIG)?;
        let status = agent.status()?;
        say(&format!("        in force after {} ms", status.ready_ms));
        for feature in &status.features {
            say(&format!("        {:16} {:9} {}", feature.name, feature.state, feature.rung));
        }
        Ok(Self { agent, _dns: dns, _web: web, _home: home, plain, world })
    }

    /// The play.
    pub(super) fn play(&self) -> Result<Facts> {
        say("[4/5] people at home use the web, an attacker knocks");
        let mut visits = Vec::new();
        let [first, second] =
            [self.world.client(), self.world.clients.last().unwrap_or(self.world.client())];
        for (who, host, family, name, path) in [
            ("client1", first, Family::V4, "news.test", "/"),
            ("client1", first, Family::V4, "video.test", page::MIB16),
            ("client1", first, Family::V6, "video.test", page::MIB16),
            ("client2", second, Family::V6, "shop.test", page::MIB),
            ("client2", second, Family::V4, "news.test", "/"),
        ] {
            visits.push(visit(who, host, family, &format!("https://{name}{path}"), true)?);
        }
        for (who, host, family, name) in [
            ("client1", first, Family::V4, "ads.test"),
            ("client2", second, Family::V6, "metrics.tracker.test"),
        ] {
            visits.push(visit(who, host, family, &format!("https://{name}/"), false)?);
        }
        // A device that calls a listed address.
        visits.push(visit("client2", second, Family::V4, &format!("http://{LISTED}/"), false)?);

        let flood = self.flood()?;
        let stranger_served = knock(&self.world.server, None)?;
        knock(&self.world.attacker, Some(NEIGHBOUR))?;
        for _ in 0..2 {
            knock(&self.world.attacker, Some(LISTED))?;
        }
        let mut flood = flood;
        flood.wait_for_end(LIMIT)?;

        let mut answers = Vec::new();
        for subject in ["ads.test", LISTED] {
            let command = format!("sluice why {subject}");
            answers.push((command, self.agent.ask(&["why", subject])?));
        }
        Ok(Facts {
            visits,
            stranger_served,
            flood: FLOOD,
            flows: self.agent.flows()?,
            status: self.agent.status()?,
            answers,
            rates: None,
        })
    }

    /// The comparison; nothing when there is no twin.
    pub(super) fn measure(&self, rounds: u32) -> Result<Rates> {
        let Some(plain) = &self.plain else { return Ok(Rates::default()) };
        say("[5/5] comparing throughput: plain, empty XDP, Sluice, every packet through a queue");
        let progress = |way: Way, round| match round {
            0 => say(&format!("        {way:?}, a round to warm up").to_lowercase()),
            round => say(&format!("        {way:?}, round {round} of {rounds}").to_lowercase()),
        };
        throughput::measure((&self.world, &self.agent), plain, rounds, progress)
    }

    /// Starts the SYN flood: 5,000 a second for two seconds.
    fn flood(&self) -> Result<Daemon> {
        let target = WAN_V4.to_string();
        let count = FLOOD.to_string();
        let mut command = self.world.attacker.netns.command("hping3");
        command.args(["-q", "-S", "-p", "443", "-i", "u200", "-c", &count, &target]);
        let flood = Daemon::spawn("hping3", command, self.world.directory.path())?;
        say(&format!("        attacker  SYN flood, {FLOOD} packets"));
        Ok(flood)
    }
}

/// Whether the server at home answers a stranger.
fn knock(from: &Host, source: Option<&str>) -> Result<bool> {
    let url = format!("http://{WAN_V4}:8080/");
    let mut command = from.netns.command("curl");
    command.args(["--silent", "--max-time", "2", "--output", "/dev/null"]);
    if let Some(source) = source {
        command.args(["--interface", source]);
    }
    let served = process::output(command.arg(&url))?.status.success();
    let who =
        source.map_or_else(|| "a stranger".to_owned(), |source| format!("{source} (attacker)"));
    let result = if served { "answered" } else { "no answer" };
    say(&format!("        {who:26} {url:32} {result}"));
    Ok(served)
}

/// A web server on a device, which the router's port 8080 leads to.
fn home_server(host: &Host, world: &Router) -> Result<Daemon> {
    let root = world.directory.path().join("home");
    std::fs::create_dir(&root).ok();
    world.directory.write("home/index.html", "home\n")?;
    let mut command = host.netns.command("busybox");
    command.args(["httpd", "-f", "-p", "8080", "-h"]).arg(&root);
    let daemon = Daemon::spawn("httpd", command, world.directory.path())?;
    host.netns.wait_for_listener(8080)?;
    Ok(daemon)
}

fn visit(who: &'static str, host: &Host, family: Family, url: &str, wanted: bool) -> Result<Visit> {
    let fetched = fetch(host, family, url, if wanted { LIMIT } else { SHORT })?;
    let result = match (fetched.is_success(), wanted) {
        (true, true) => format!("{} KiB", fetched.bytes.div_ceil(1024)),
        (false, false) => "blocked".to_owned(),
        (true, false) => "NOT BLOCKED".to_owned(),
        (false, true) => format!("FAILED: {}", fetched.error),
    };
    let family_shown = if family == Family::V4 { "IPv4" } else { "IPv6" };
    say(&format!("        {who:9} {family_shown}  {url:32} {result}"));
    Ok(Visit { who, url: url.to_owned(), family, wanted, fetched })
}

/// Whether an address belongs to the LAN of the demo.
pub(super) fn is_home(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == Ipv4Addr::new(192, 168, 77, 0).octets()[..3],
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd77,
    }
}
