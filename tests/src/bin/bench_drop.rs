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
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::time::{ClockId, clock_gettime};
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::netns::Netns;
use sluice_tests::router::{Build, Lan, Router, WAN, WAN_V4};
use sluice_tests::skip;

/// Listed addresses; a power of two.
const LISTED: u32 = 1 << 20;
/// Frames of a run, and runs.
const FRAMES: u32 = 100_000;
const ROUNDS: usize = 7;

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    if skip::without_root() {
        return Ok(());
    }
    let sources = sources();
    let map = map(&sources)?;
    let build = Build { lan: Lan::Plain, ..Build::default() };
    let worlds = (0..3).map(|_| Router::new(build)).collect::<Result<Vec<_>, _>>()?;
    let [nft, generic, native] = &worlds[..] else { return Err("three worlds".into()) };

    let mut set = String::from(
        "table ip raw {\nset listed { type ipv4_addr; size 2097152; }\n\
         chain pre { type filter hook prerouting priority raw; ip saddr @listed counter drop; }\n}\n",
    );
    for chunk in sources.chunks(10_000) {
        set.push_str("add element ip raw listed { ");
        for source in chunk {
            let _ = write!(set, "{}, ", std::net::Ipv4Addr::from_bits(*source));
        }
        set.push_str("}\n");
    }
    nft.netns.nft(&set)?;
    let list = native.directory.write("listed", {
        let mut text = String::new();
        for source in &sources {
            let _ = writeln!(text, "{}", std::net::Ipv4Addr::from_bits(*source));
        }
        text
    })?;
    let setup = || Setup::default().blocklist_file("bad", &list, LISTED);
    let _generic = Agent::start(generic, setup().xdp("generic"))?;
    let _native = Agent::start(native, setup().xdp("native"))?;

    let to_stack = generator(&map, XDP_PASS, None)?;
    let nowhere = generator(&map, XDP_DROP, None)?;
    let lanes = [
        Lane::new("generator", &nft.netns, WAN, nowhere)?,
        Lane::new("nftables, prerouting raw, set", &nft.netns, WAN, to_stack.try_clone()?)?,
        Lane::new("Sluice, generic XDP", &generic.netns, WAN, to_stack)?,
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

/// Addresses in random order, none of them special.
fn sources() -> Vec<u32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut sources = std::collections::BTreeSet::new();
    while sources.len() < LISTED as usize {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let address = (state >> 32) as u32;
        if (11..=99).contains(&(address >> 24)) {
            sources.insert(address);
        }
    }
    let mut sources: Vec<u32> = sources.into_iter().collect();
    for index in (1..sources.len()).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sources.swap(index, (state >> 33) as usize % (index + 1));
    }
    sources
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
    fn new(
        name: &'static str,
        netns: &'a Netns,
        device: &str,
        program: OwnedFd,
    ) -> Result<Self, Box<dyn Error>> {
        let ifindex = index_of(netns, device)?;
        let frame = frame(mac_of(netns, device)?);
        Ok(Self { name, netns, program, ifindex, frame })
    }

    /// Frames that go over the cable from the other end of the router's WAN.
    fn over(name: &'static str, world: &'a Router, map: &OwnedFd) -> Result<Self, Box<dyn Error>> {
        let switch = world.switch();
        let ifindex = index_of(switch, "uplink")?;
        let program = generator(map, 0, Some(ifindex))?;
        let frame = frame(mac_of(&world.netns, WAN)?);
        Ok(Self { name, netns: switch, program, ifindex, frame })
    }

    /// Nanoseconds of this thread for each frame.
    fn run(&self) -> Result<f64, Box<dyn Error>> {
        Ok(self.netns.enter(|| test_run(&self.program, &self.frame, self.ifindex))??)
    }
}

fn index_of(netns: &Netns, device: &str) -> Result<u32, Box<dyn Error>> {
    let text = netns.run(&format!("ip -o link show {device}"))?;
    Ok(text.split(':').next().ok_or("no index")?.trim().parse()?)
}

fn mac_of(netns: &Netns, device: &str) -> Result<[u8; 6], Box<dyn Error>> {
    let text = netns.run(&format!("ip -o link show {device}"))?;
    let text = text.split("link/ether ").nth(1).ok_or("no address")?;
    let octets = text.split_whitespace().next().ok_or("no address")?.split(':');
    let octets =
        octets.map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<Vec<_>, _>>()?;
    let octets: Option<[u8; 6]> = octets.try_into().ok();
    Ok(octets.ok_or("not six octets")?)
}

/// A UDP frame to the router, 64 bytes; the source and the checksum are the program's to write.
fn frame(to: [u8; 6]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0]);
    frame.extend(WAN_V4.octets());
    frame.extend([0x0f, 0xa0, 0, 9, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// The header's checksum (RFC 1071) with this source.
fn checksum(source: u32) -> u16 {
    let mut header = frame([0; 6])[14..34].to_vec();
    header[12..16].copy_from_slice(&source.to_be_bytes());
    let words =
        header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Calls bpf(2).
fn bpf<A>(command: libc::c_long, attribute: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the attribute lives through the call, as does what the callers' fields point to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<A>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// An array with the sources, each with its checksum, as the frame has them.
fn map(sources: &[u32]) -> io::Result<OwnedFd> {
    // type array, key 4, value 8
    let mut create = [2_u32, 4, 8, sources.len() as u32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let map = descriptor(bpf(0, &mut create)?);
    let keys: Vec<u32> = (0..sources.len() as u32).collect();
    let values: Vec<[u8; 8]> = sources
        .iter()
        .map(|source| {
            let mut value = [0; 8];
            value[..4].copy_from_slice(&source.to_be_bytes());
            value[4..6].copy_from_slice(&checksum(*source).to_be_bytes());
            value
        })
        .collect();
    let (count, fd) = (u64::from(keys.len() as u32), u64::from(map.as_raw_fd().cast_unsigned()));
    let pair = if cfg!(target_endian = "little") { count | fd << 32 } else { count << 32 | fd };
    let mut batch = [0, 0, keys.as_ptr() as u64, values.as_ptr() as u64, pair, 0, 0];
    bpf(26, &mut batch)?;
    Ok(map)
}

/// One instruction.
const fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> [u8; 8] {
    let (near, far) = (offset.to_ne_bytes(), value.to_ne_bytes());
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    [code, registers, near[0], near[1], far[0], far[1], far[2], far[3]]
}

/// `union bpf_attr` of `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    code: u64,
    license: u64,
    rest: [u64; 13],
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
    let mut load = Load {
        kind: 6,
        count: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        rest: [0; 13],
    };
    Ok(descriptor(bpf(5, &mut load)?))
}

/// Sends [`FRAMES`] live frames as if they came from the device; the thread's time for each.
fn test_run(program: &OwnedFd, frame: &[u8], ifindex: u32) -> io::Result<f64> {
    const LIVE_FRAMES: u32 = 2;
    #[repr(C)]
    struct TestRun {
        program: u32,
        result: u32,
        data_len: u32,
        out_len: u32,
        data: u64,
        out: u64,
        repeat: u32,
        duration: u32,
        context_len: u32,
        context_out_len: u32,
        context: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
        batch: u32,
        pad: u32,
    }
    // struct xdp_md: data, end, meta, ingress device, queue, egress device.
    let context = [0, frame.len() as u32, 0, ifindex, 0, 0];
    let mut run = TestRun {
        program: program.as_raw_fd().cast_unsigned(),
        result: 0,
        data_len: frame.len() as u32,
        out_len: 0,
        data: frame.as_ptr() as u64,
        out: 0,
        repeat: FRAMES,
        duration: 0,
        context_len: size_of_val(&context) as u32,
        context_out_len: 0,
        context: context.as_ptr() as u64,
        context_out: 0,
        flags: LIVE_FRAMES,
        cpu: 0,
        batch: 64,
        pad: 0,
    };
    let now = || -> io::Result<f64> {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
    };
    let before = now()?;
    bpf(10, &mut run)?;
    Ok((now()? - before) / f64::from(FRAMES))
}
