//! What it costs to drop a listed source: in the driver, behind it, and by an nftables set with the
//! same addresses.
//!
//! `BPF_PROG_TEST_RUN` with live frames (kernel 5.18) in one thread: a program gives each frame a
//! random listed source and hands it to the stack, or sends it over the cable to the driver's hook.
//! All that happens to it until it is dropped runs in this thread and is billed to it. What the
//! generator costs by itself is measured the same way and taken off.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use sluice::sys::rtnetlink;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::frame::Mac;
use sluice_tests::netns::Netns;
use sluice_tests::router::{Build, Lan, Router, WAN, WAN_V4};
use sluice_tests::testrun::{self, XDP_DROP, XDP_PASS, op};
use sluice_tests::{lists, skip};

/// Listed addresses; a power of two.
const LISTED: u32 = 1 << 20;
/// Frames of a run, and runs.
const FRAMES: u32 = 100_000;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    if skip::without_root() {
        return Ok(());
    }
    let sources = lists::random(7, LISTED as usize, 0);
    let map = map(&sources)?;
    let build = Build { lan: Lan::Plain, ..Build::default() };
    let worlds = (0..4).map(|_| Router::new(build)).collect::<Result<Vec<_>, _>>()?;
    let [nft, tc, generic, native] = &worlds[..] else { return Err("four worlds".into()) };

    let mut set = String::from(
        "table ip raw {\nset listed { type ipv4_addr; size 2097152; }\n\
         chain pre { type filter hook prerouting priority raw; ip saddr @listed counter drop; }\n}\n",
    );
    for chunk in sources.chunks(10_000) {
        set.push_str("add element ip raw listed { ");
        for (source, _) in chunk {
            let _ = write!(set, "{source}, ");
        }
        set.push_str("}\n");
    }
    nft.netns.nft(&set)?;
    let list = native.directory.write("listed", lists::text(&sources))?;
    let setup = || Setup::default().blocklist_file("bad", &list, LISTED);
    let _tc = Agent::start(tc, setup().xdp("tc"))?;
    let _generic = Agent::start(generic, setup().xdp("generic"))?;
    let _native = Agent::start(native, setup().xdp("native"))?;

    let to_stack = generator(&map, XDP_PASS, None)?;
    let nowhere = generator(&map, XDP_DROP, None)?;
    let lanes = [
        Lane::new("generator", nft, nowhere)?,
        Lane::new("nftables, prerouting raw, set", nft, to_stack.try_clone()?)?,
        Lane::new("Sluice, tc", tc, to_stack.try_clone()?)?,
        Lane::new("Sluice, generic XDP", generic, to_stack)?,
        Lane::over("Sluice, native XDP (and the cable)", native, &map)?,
    ];
    let mut times = vec![Vec::new(); lanes.len()];
    for round in 0..ROUNDS {
        for index in 0..lanes.len() {
            let index = if round % 2 == 0 { index } else { lanes.len() - 1 - index };
            times[index].push(lanes[index].run()?);
        }
    }
    let minimum = |times: &[f64]| times.iter().copied().fold(f64::MAX, f64::min);
    let floor = minimum(&times[0]);
    let net = |index: usize| minimum(&times[index]) - floor;
    println!("{LISTED} addresses, random listed sources, ns per frame, minimum of {ROUNDS}");
    for (index, lane) in lanes.iter().enumerate() {
        let ratio =
            if index == 0 { String::new() } else { format!("{:6.2}×", net(1) / net(index)) };
        println!("{:36}{:8.1}{:8.1} net {ratio}", lane.name, minimum(&times[index]), net(index));
    }
    Ok(())
}

/// One way to drop.
struct Lane<'a> {
    name: &'static str,
    netns: &'a Netns,
    program: OwnedFd,
    ifindex: u32,
    frame: Vec<u8>,
}

impl<'a> Lane<'a> {
    /// Frames that come in at the router's WAN.
    fn new(
        name: &'static str,
        world: &'a Router,
        program: OwnedFd,
    ) -> Result<Self, Box<dyn Error>> {
        let ifindex = index_of(&world.netns, WAN)?;
        let frame = frame(world.attacker.gateway_mac);
        Ok(Self { name, netns: &world.netns, program, ifindex, frame })
    }

    /// Frames that go over the cable from the other end of the router's WAN.
    fn over(name: &'static str, world: &'a Router, map: &OwnedFd) -> Result<Self, Box<dyn Error>> {
        let ifindex = index_of(world.switch(), "uplink")?;
        let program = generator(map, 0, Some(ifindex))?;
        let frame = frame(world.attacker.gateway_mac);
        Ok(Self { name, netns: world.switch(), program, ifindex, frame })
    }

    /// Nanoseconds of this thread for each frame.
    fn run(&self) -> Result<f64, Box<dyn Error>> {
        let run = || testrun::run(self.program.as_fd(), &self.frame, FRAMES, Some(self.ifindex));
        Ok(self.netns.enter(run)??.each_ns)
    }
}

fn index_of(netns: &Netns, device: &str) -> Result<u32, Box<dyn Error>> {
    let device = netns.enter(|| rtnetlink::device_by_name(device))??;
    Ok(device.ok_or("no such device")?.ifindex)
}

/// A UDP frame to the router, 64 bytes; the source and the checksum are the program's to write.
fn frame(to: Mac) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0]);
    frame.extend(WAN_V4.octets());
    frame.extend([0x0f, 0xa0, 0, 9, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// The header's checksum (RFC 1071) with this source.
fn checksum(source: Ipv4Addr) -> u16 {
    let mut header = frame([0; 6])[14..34].to_vec();
    header[12..16].copy_from_slice(&source.octets());
    let words =
        header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An array with the sources, each with its checksum, as the frame has them.
fn map(sources: &[(Ipv4Addr, u8)]) -> io::Result<OwnedFd> {
    let map = testrun::map(testrun::ARRAY, 4, 8, sources.len() as u32)?;
    for (key, (source, _)) in (0_u32..).zip(sources) {
        let mut value = [0; 8];
        value[..4].copy_from_slice(&source.octets());
        value[4..6].copy_from_slice(&checksum(*source).to_be_bytes());
        testrun::set(&map, &key.to_ne_bytes(), &value)?;
    }
    Ok(map)
}

/// A program that writes a random source and returns `action`, or sends the frame out of a device.
fn generator(map: &OwnedFd, action: i32, out: Option<u32>) -> io::Result<OwnedFd> {
    let mask = i32::try_from(LISTED - 1).map_err(io::Error::other)?;
    let mut code = vec![
        op(0xbf, 6, 1, 0, 0),               // r6 = context
        op(0x85, 0, 0, 0, 7),               // r0 = random
        op(0x57, 0, 0, 0, mask),            // r0 &= mask
        op(0x63, 10, 0, -4, 0),             // key = r0
        op(0x18, 1, 1, 0, map.as_raw_fd()), // r1 = map
        op(0, 0, 0, 0, 0),
        op(0xbf, 2, 10, 0, 0), // r2 = &key
        op(0x07, 2, 0, 0, -4),
        op(0x85, 0, 0, 0, 1), // lookup
        op(0x15, 0, 0, 0, 0), // if none: to the end (patched)
        op(0x61, 7, 0, 0, 0), // r7 = source
        op(0x69, 8, 0, 4, 0), // r8 = checksum
        op(0x61, 2, 6, 0, 0), // r2 = data
        op(0x61, 3, 6, 4, 0), // r3 = end
        op(0xbf, 4, 2, 0, 0),
        op(0x07, 4, 0, 0, 34),
        op(0x2d, 4, 3, 0, 0),  // if shorter: to the end (patched)
        op(0x63, 2, 7, 26, 0), // source
        op(0x6b, 2, 8, 24, 0), // checksum
    ];
    match out {
        None => code.extend([op(0xb7, 0, 0, 0, action), op(0x95, 0, 0, 0, 0)]),
        Some(ifindex) => code.extend([
            op(0xb7, 1, 0, 0, ifindex.cast_signed()),
            op(0xb7, 2, 0, 0, 0),
            op(0x85, 0, 0, 0, 23), // redirect
            op(0x95, 0, 0, 0, 0),
        ]),
    }
    let end = code.len();
    for jump in [9, 16] {
        let distance = i16::try_from(end - jump - 1).map_err(io::Error::other)?;
        code[jump][2..4].copy_from_slice(&distance.to_ne_bytes());
    }
    code.extend([op(0xb7, 0, 0, 0, 0), op(0x95, 0, 0, 0, 0)]); // XDP_ABORTED
    testrun::program(testrun::XDP, &code)
}
