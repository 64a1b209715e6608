//! Bulk throughput of a trusted flow: a router with Sluice beside the same router without, in turns.
//!
//! Also a guest of the virtual machines, whose kernels have flowtables:
//! `cargo xtask vm --cell debian-6.12 --guest target/debug/throughput`, with `--icount` where the clock is to
//! count instructions.

use std::io::{self, Write as _};
use std::time::Duration;

use sluice_tests::agent::mount_bpffs;
use sluice_tests::router::{Build, Lan, Router};
use sluice_tests::throughput::paired::{Share, median};
use sluice_tests::throughput::{Dress, Duel, Stand, Way, measure};
use sluice_tests::{Error, Result, skip};

const HELP: &str = "\
usage: throughput [--rounds N] [--slice MS] [--only GROUP]… [--lane TEXT]…

  --rounds N     rounds that count (40)
  --slice MS     milliseconds that each router runs in a round (150)
  --only GROUP   merged, cable, flowtable, flowtable-cable, bridge,
                 bridge-cable; all that the kernel has, if none is named
  --lane TEXT    only lanes with this in their name

Each line compares a router with another that ran right before or after it, a plain one unless it names
another: both medians, then the median share with the interval that holds it with 95 % confidence. All runs
on one processor, so a rate shows all that both ends and the router work.
";

/// What frames look like, and how they are forwarded.
struct Group {
    name: &'static str,
    about: &'static str,
    super_packets: bool,
    offloads: bool,
    lan: Lan,
}

const GROUPS: [Group; 6] = [
    Group {
        name: "merged",
        about: "merged frames, as network cards and GRO make them",
        super_packets: true,
        offloads: false,
        lan: Lan::Bridge,
    },
    Group {
        name: "cable",
        about: "frames of 1,514 bytes, never merged",
        super_packets: false,
        offloads: false,
        lan: Lan::Bridge,
    },
    Group {
        name: "flowtable",
        about: "merged frames, the firewall offloads in software",
        super_packets: true,
        offloads: true,
        lan: Lan::Plain,
    },
    Group {
        name: "flowtable-cable",
        about: "frames of 1,514 bytes, the firewall offloads in software",
        super_packets: false,
        offloads: true,
        lan: Lan::Plain,
    },
    Group {
        name: "bridge",
        about: "merged frames, the firewall offloads in software, between the provider and ports of a bridge",
        super_packets: true,
        offloads: true,
        lan: Lan::Bridge,
    },
    Group {
        name: "bridge-cable",
        about: "frames of 1,514 bytes, the firewall offloads in software, between the provider and ports of a bridge",
        super_packets: false,
        offloads: true,
        lan: Lan::Bridge,
    },
];

struct Options {
    rounds: u32,
    slice_ms: u64,
    lanes: Vec<String>,
    only: Vec<String>,
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { rounds: 40, slice_ms: 150, lanes: Vec::new(), only: Vec::new() };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = args.next()?.parse().ok()?,
            "--slice" => options.slice_ms = args.next()?.parse().ok()?,
            "--only" => options.only.push(args.next()?),
            "--lane" => options.lanes.push(args.next()?),
            _ => return None,
        }
    }
    let is_known = |only: &String| GROUPS.iter().any(|group| group.name == only);
    options.only.iter().all(is_known).then_some(options)
}

fn say(text: &str) {
    // Nobody reads any more: the guards still clean up.
    let _closed = writeln!(io::stdout(), "{text}");
}

fn duels(group: &Group) -> Vec<Duel> {
    let reference = (0, Dress::Plain);
    let [tc, shielded, native, generic] =
        ["off", "tc", "native", "generic"].map(|xdp| (0, Dress::Sluice(xdp)));
    let [driver, before_stack] = ["xdpdrv", "xdpgeneric"].map(|mode| (0, Dress::EmptyXdp(mode)));
    let mut duels = vec![
        Duel::new("the same plain router", reference, reference),
        Duel::new("Sluice without XDP", tc, reference),
        Duel::new("Sluice, shield in tc", shielded, reference),
        Duel::new("names from DNS / without them", tc, (0, Dress::Nameless("off"))),
        Duel::new("empty native XDP", driver, reference),
        Duel::new("Sluice on native XDP / empty", native, driver),
        Duel::new("empty generic XDP", before_stack, reference),
        Duel::new("Sluice on generic XDP / empty", generic, before_stack),
    ];
    if !group.offloads {
        duels.push(Duel::new("every packet through a queue", (0, Dress::Everything), reference));
    }
    duels
}

/// Measures and shows a group.
fn run(group: &Group, options: &Options) -> Result<()> {
    let (rounds, slice) = (options.rounds, Duration::from_millis(options.slice_ms));
    say(&format!("\n{} ({}), {rounds} rounds of {slice:?}", group.name, group.about));
    let build = Build { lan: group.lan, super_packets: group.super_packets, ..Build::default() };
    let world = Router::new(build)?;
    let mut stand = Stand::new(&world, None, true);
    if group.offloads {
        stand.offload()?;
    }
    let stands = [stand];
    for way in Way::ALL {
        let mut duels = duels(group);
        duels.retain(|duel| {
            options.lanes.is_empty() || options.lanes.iter().any(|lane| duel.name.contains(lane))
        });
        measure(&stands, &mut duels, way, (rounds, slice), |_| {})?;
        let (heading, rate, work) = (format!("{way:?}"), "rate", "work for a byte");
        say(&format!("  {heading:32} {:>15}  {rate:24} {work}", "Mbit/s"));
        for duel in &duels {
            let [reference, subject] = duel.rates();
            let (rate, work) = (shown(duel.rate()), shown(duel.work()));
            let (reference, subject) = (median(&reference), median(&subject));
            let rates = format!("{subject:.0} / {reference:.0}");
            say(&format!("  {:32} {rates:>15}  {rate:24} {work}", duel.name));
        }
    }
    say(&format!("test throughput::{} ... ok", group.name));
    Ok(())
}

fn shown(share: Share) -> String {
    format!("{:.3} ({:.3} to {:.3})", share.median, share.low, share.high)
}

fn main() -> Result<()> {
    let Some(options) = options(std::env::args().skip(1)) else {
        say(HELP);
        return Err(Error::Unusable("these arguments make no sense".to_owned()));
    };
    if skip::without_root() {
        return Ok(());
    }
    mount_bpffs()?;
    let has_flowtables = skip::has_flowtables()?;
    for group in &GROUPS {
        let is_wanted =
            options.only.is_empty() || options.only.iter().any(|only| only == group.name);
        if !is_wanted {
            continue;
        }
        if group.offloads && !has_flowtables {
            say(&format!("test throughput::{} ... SKIPPED: no nft_flow_offload", group.name));
            continue;
        }
        run(group, &options)?;
    }
    Ok(())
}
