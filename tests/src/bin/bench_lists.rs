//! What a large list costs: to look up, in memory and to load, next to the kernel's own structures
//! with the same entries.
//!
//! `BPF_PROG_TEST_RUN` in one thread: a program gives each frame a random source and calls what is
//! measured. "Hit" sources are listed addresses in random order, "miss" ones are anything. What the
//! generator costs by itself, and what the shield costs without lists, is taken off; ours includes
//! the counting of a hit and the look at the allowlist, the others' programs only look up.

#![expect(clippy::print_stdout, reason = "the tables are what this program is for")]

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use bytemuck::Zeroable as _;
use sluice::config::Config;
use sluice::dataplane::Bulk;
use sluice::dataplane::bulk::{Entries, measure, write};
use sluice_abi::attach::{Link, Role};
use sluice_abi::bulk::Chunk;
use sluice_abi::settings::Settings;
use sluice_datapath::bulk::{Image, lookup as find};
use sluice_tests::directory::Directory;
use sluice_tests::lists;
use sluice_tests::plane::{Shield, enabled};
use sluice_tests::skip;
use sluice_tests::testrun::{self, HASH, LPM_TRIE, XDP_PASS, op};

/// Listed addresses; a power of two.
const HOSTS: u32 = 1 << 20;
/// Listed prefixes.
const NETS: usize = 100_000;
/// Random addresses of which the image is asked, and of how many entries the ends; an unoptimised build
/// asks less.
const PROBES: u32 = if cfg!(debug_assertions) { 200_000 } else { 20_000_000 };
const STEP: usize = if cfg!(debug_assertions) { 100 } else { 1 };
const ROUNDS: usize = 9;
const REPEAT: u32 = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    if skip::without_root() {
        return Ok(());
    }
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("load") {
        return load(Path::new(&arguments.next().ok_or("no file")?));
    }
    let mut list: Vec<(Ipv4Addr, u8)> =
        (0..HOSTS).map(|number| (Ipv4Addr::from_bits(source(number)), 32)).collect();
    list.extend(lists::random(99, 0, NETS));
    verify(&list)?;
    let files = Directory::new("bench-lists")?;
    install(&files, &list)?;
    lookup(&list)
}

/// Address number `number`: no two are the same, and neighbours are far apart.
const fn source(number: u32) -> u32 {
    number.wrapping_mul(FACTOR).wrapping_add(TERM)
}
const FACTOR: u32 = 0x9e37_79b1;
const TERM: u32 = 0x0b51_2026;

/// The list as the agent has it.
fn entries(list: &[(Ipv4Addr, u8)]) -> Result<Entries, Box<dyn Error>> {
    let mut entries = Entries::with_capacity(list.len(), 0);
    for (address, length) in list {
        entries.push(&format!("{address}/{length}").parse()?, 7);
    }
    entries.sort();
    Ok(entries)
}

/// An image in memory.
struct Chunks(Vec<Chunk>);

impl Image for Chunks {
    fn chunk(&self, number: u32) -> Option<&Chunk> {
        self.0.get(number as usize)
    }
}

/// Compares what the image says with the list, for many random addresses and all ends of entries.
fn verify(list: &[(Ipv4Addr, u8)]) -> Result<(), Box<dyn Error>> {
    let entries = entries(list)?;
    let bytes = measure(&entries).map_err(io::Error::other)?;
    let mut chunks = vec![Chunk::zeroed(); bytes as usize / Chunk::BYTES];
    let header = write(&entries, |number, chunk| {
        let place = chunks.get_mut(number as usize).ok_or(io::ErrorKind::NotFound)?;
        *place = *chunk;
        Ok::<(), io::Error>(())
    })?;
    let image = Chunks(chunks);
    // First addresses, and the last one of any entry up to there.
    let mut intervals: Vec<(u32, u32)> = list
        .iter()
        .map(|(address, length)| {
            let rest = u32::MAX.checked_shr((*length).into()).unwrap_or(0);
            (address.to_bits(), address.to_bits() | rest)
        })
        .collect();
    intervals.sort_unstable();
    let mut furthest = 0;
    for interval in &mut intervals {
        furthest = furthest.max(interval.1);
        interval.1 = furthest;
    }
    let is_listed = |address: u32| {
        let before = intervals.partition_point(|(first, _)| *first <= address);
        before.checked_sub(1).and_then(|n| intervals.get(n)).is_some_and(|i| address <= i.1)
    };
    let mut random = lists::Random::new(0x5eed);
    let ends = intervals.iter().step_by(STEP).flat_map(|(first, last)| {
        [
            first.wrapping_sub(1),
            *first,
            first + 1,
            last.wrapping_sub(1),
            *last,
            last.wrapping_add(1),
        ]
    });
    let (mut listed, mut probes, mut errors) = (0_u32, 0_u32, 0_u32);
    for address in ends.chain((0..PROBES).map(|_| random.next())) {
        let expected = is_listed(address);
        let found = find(&image, &IpAddr::from(Ipv4Addr::from_bits(address)).into());
        listed += u32::from(expected);
        probes += 1;
        errors += u32::from(found != expected.then_some(7));
    }
    println!(
        "image of {} chunks: {errors} errors in {probes} probes, {listed} listed",
        header.chunks
    );
    if errors == 0 { Ok(()) } else { Err("the image is wrong".into()) }
}

fn lookup(list: &[(Ipv4Addr, u8)]) -> Result<(), Box<dyn Error>> {
    let entries = entries(list)?;
    let bytes = measure(&entries).map_err(io::Error::other)?;
    let mut shield = Shield::new(Role::Wan, Link::Ethernet);
    shield.bulk.replace(Bulk::prepare(&entries, bytes)?)?;
    drop(entries);
    println!("image: {bytes} bytes of kernel memory for {} entries", list.len());

    let hash =
        map(HASH, 4, list.iter().filter(|entry| entry.1 == 32).map(|entry| entry.0), |address| {
            address.octets().to_vec()
        })?;
    let trie = map(LPM_TRIE, 8, list.iter().copied(), |(address, length)| {
        [u32::from(length).to_ne_bytes(), address.octets()].concat()
    })?;
    let shield_fd = shield.program().fd()?.as_fd().as_raw_fd();
    let (hash, trie) = (looks_up(&hash, false)?, looks_up(&trie, true)?);
    let nothing =
        testrun::program(testrun::XDP, &[op(0xb7, 0, 0, 0, XDP_PASS), op(0x95, 0, 0, 0, 0)])?;
    // Name, program, whether it looks at the lists, the row that is taken off.
    let rows = [
        ("generator", nothing.as_raw_fd(), false, 0),
        ("shield without lists", shield_fd, false, 0),
        ("shield with the image", shield_fd, true, 1),
        ("BPF hash (addresses only)", hash.as_raw_fd(), false, 0),
        ("BPF LPM trie", trie.as_raw_fd(), false, 0),
    ];
    let frame = frame();
    let mut minimum = [[f64::MAX; 2]; 5];
    for (column, is_hit) in [true, false].into_iter().enumerate() {
        let generators =
            rows.iter().map(|row| generator(row.1, is_hit)).collect::<io::Result<Vec<_>>>()?;
        for round in 0..ROUNDS {
            for index in 0..rows.len() {
                let index = if round % 2 == 0 { index } else { rows.len() - 1 - index };
                shield.settings.set(Settings { flags: Settings::ENABLED, ..enabled() })?;
                shield.settings.set_bulk((rows[index].2, false))?;
                let time = run(&generators[index].0, &frame)?;
                minimum[index][column] = minimum[index][column].min(time);
            }
        }
    }
    println!(
        "\nns per frame, minimum of {ROUNDS} rounds of {REPEAT}; net of the row that is taken off"
    );
    println!("{:28}{:>10}{:>10}{:>10}{:>10}", "", "hit", "net", "miss", "net");
    let net = |index: usize, column: usize| minimum[index][column] - minimum[rows[index].3][column];
    for (index, row) in rows.iter().enumerate() {
        let [hit, miss] = minimum[index];
        println!(
            "{:28}{hit:>10.1}{:>10.1}{miss:>10.1}{:>10.1}",
            row.0,
            net(index, 0),
            net(index, 1)
        );
    }
    for (index, name) in [(3, "hash"), (4, "trie")] {
        println!(
            "{name} / image: {:.1} on hits, {:.1} on misses",
            net(index, 0) / net(2, 0),
            net(index, 1) / net(2, 1)
        );
    }
    Ok(())
}

/// Times and memory of processes that load the list: the agent's way, and nft's.
fn install(files: &Directory, list: &[(Ipv4Addr, u8)]) -> Result<(), Box<dyn Error>> {
    let path = files.write("bad", lists::text(list))?;
    let config = files.write(
        "sluice",
        format!(
            "config interface 'wan'\n\toption device 'a'\n\toption role 'wan'\n\
             config interface 'lan'\n\toption device 'b'\n\toption role 'lan'\n\
             config blocklist 'bad'\n\tlist file '{}'\n",
            path.display()
        ),
    )?;
    let elements = |list: &[(Ipv4Addr, u8)]| {
        let mut text = String::new();
        for part in list.chunks(10_000) {
            let part: Vec<_> =
                part.iter().map(|(a, l)| format!("{a}/{l}").replace("/32", "")).collect();
            text += &part.join(", ");
            text += ",\n";
        }
        text
    };
    let (hosts, nets) = list.split_at(HOSTS as usize);
    let nft = files.write(
        "set.nft",
        format!(
            "table ip bench {{\nset hosts {{ type ipv4_addr; size 2097152; elements = {{ {} }} }}\n\
             set nets {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {} }} }}\n}}\n",
            elements(hosts),
            elements(nets)
        ),
    )?;
    let own = std::env::current_exe()?;
    let mut ours = Command::new(own);
    ours.arg("load").arg(config);
    let mut theirs = Command::new("unshare");
    theirs.args(["-n", "nft", "-f"]).arg(nft);
    for (name, command) in [("Sluice", &mut ours), ("nft -f", &mut theirs)] {
        let start = Instant::now();
        let child = command.stdin(Stdio::null()).spawn()?;
        let (status, peak_kib) = wait(child.id())?;
        if status != 0 {
            return Err(format!("{name} ended with {status}").into());
        }
        // A child's usage begins with what its parent had, which is more than ours takes: ours tells
        // its own.
        let peak =
            if name == "nft -f" { format!(", {peak_kib} KiB at the peak") } else { String::new() };
        let seconds = start.elapsed().as_secs_f64();
        println!("{name:8} {} entries: {seconds:.2} s{peak}", list.len());
    }
    Ok(())
}

/// Reads a configuration, checks its lists, and makes their image in the kernel.
fn load(file: &Path) -> Result<(), Box<dyn Error>> {
    let (config, _) = Config::load(file)?;
    let sources = config.blocklists.iter().flat_map(|list| &list.sources);
    let count: u32 = sources.clone().map(|source| source.counts.v4).sum();
    let mut entries = Entries::with_capacity(count as usize, 0);
    for source in sources {
        source.entries(|net, _| entries.push(&net, 0))?;
    }
    entries.sort();
    let bytes = measure(&entries).map_err(io::Error::other)?;
    Bulk::prepare(&entries, bytes)?;
    // Not from the parent's usage, which begins with what the parent had.
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(())
}

/// Exit status and peak of a child.
fn wait(pid: u32) -> io::Result<(i32, libc::c_long)> {
    let mut status = 0;
    // SAFETY: all zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    let result = unsafe { libc::wait4(pid.cast_signed(), &raw mut status, 0, &raw mut usage) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((status, usage.ru_maxrss)) }
}

/// A UDP frame; the source is the generator's to write.
fn frame() -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
    frame.extend([0x0f, 0xa0, 0, 9, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// A map with a value of four bytes for each key.
fn map<T>(
    kind: u32,
    key_size: u32,
    entries: impl Iterator<Item = T>,
    key: impl Fn(T) -> Vec<u8>,
) -> io::Result<OwnedFd> {
    let map = testrun::map(kind, key_size, 4, HOSTS + NETS as u32)?;
    for entry in entries {
        testrun::set(&map, &key(entry), &[1; 4])?;
    }
    Ok(map)
}

/// A program that only looks the source up.
fn looks_up(map: &OwnedFd, is_trie: bool) -> io::Result<OwnedFd> {
    let key = if is_trie { -8 } else { -4 };
    let mut code = vec![
        op(0x61, 2, 1, 0, 0), // r2 = data
        op(0x61, 3, 1, 4, 0), // r3 = end
        op(0xbf, 4, 2, 0, 0),
        op(0x07, 4, 0, 0, 34),
        op(0x2d, 4, 3, 8, 0),   // if shorter: to the end
        op(0x61, 5, 2, 26, 0),  // r5 = source
        op(0x63, 10, 5, -4, 0), // key = r5
        op(0x62, 10, 0, -8, 32),
        op(0x18, 1, 1, 0, map.as_raw_fd()), // r1 = map
        op(0, 0, 0, 0, 0),
        op(0xbf, 2, 10, 0, 0), // r2 = &key
        op(0x07, 2, 0, 0, key),
        op(0x85, 0, 0, 0, 1), // lookup
        op(0xb7, 0, 0, 0, XDP_PASS),
        op(0x95, 0, 0, 0, 0),
    ];
    if !is_trie {
        code[7] = op(0xbf, 4, 4, 0, 0);
    }
    testrun::program(testrun::XDP, &code)
}

/// A program that writes a random source, listed or not, and goes on as `next`; with the map that
/// holds that.
fn generator(next: RawFd, is_hit: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let array = testrun::map(testrun::PROGRAM_ARRAY, 4, 4, 1)?;
    testrun::set(&array, &[0; 4], &next.to_ne_bytes())?;
    let mask = if is_hit { (HOSTS - 1).cast_signed() } else { -1 };
    let code = [
        op(0xbf, 6, 1, 0, 0),                    // r6 = context
        op(0x85, 0, 0, 0, 7),                    // r0 = random
        op(0x54, 0, 0, 0, mask),                 // w0 &= mask
        op(0x24, 0, 0, 0, FACTOR.cast_signed()), // w0 *= factor
        op(0x04, 0, 0, 0, TERM.cast_signed()),   // w0 += term
        op(0xdc, 0, 0, 0, 32),                   // to network order
        op(0x61, 2, 6, 0, 0),                    // r2 = data
        op(0x61, 3, 6, 4, 0),                    // r3 = end
        op(0xbf, 4, 2, 0, 0),
        op(0x07, 4, 0, 0, 34),
        op(0x2d, 4, 3, 6, 0),                 // if shorter: to the end
        op(0x63, 2, 0, 26, 0),                // source = r0
        op(0xbf, 1, 6, 0, 0),                 // r1 = context
        op(0x18, 2, 1, 0, array.as_raw_fd()), // r2 = programs
        op(0, 0, 0, 0, 0),
        op(0xb7, 3, 0, 0, 0),
        op(0x85, 0, 0, 0, 12), // tail call
        op(0xb7, 0, 0, 0, 0),
        op(0x95, 0, 0, 0, 0),
    ];
    Ok((testrun::program(testrun::XDP, &code)?, array))
}

/// Nanoseconds of this thread for each frame.
fn run(program: &OwnedFd, frame: &[u8]) -> Result<f64, Box<dyn Error>> {
    let ran = testrun::run(program.as_fd(), frame, REPEAT, None)?;
    if ran.action == 0 {
        return Err("the generator did not call what is measured".into());
    }
    Ok(ran.each_ns)
}
