//! Nanoseconds per packet of each program, beside an empty one.
//!
//! `BPF_PROG_TEST_RUN` in one thread, timed by the thread's CPU clock around the system call, so that
//! other processes are not billed; rounds are interleaved, minimum and median are printed. The empty
//! program shows what the loop itself costs.
//!
//! The last lines, `ratio NAME VALUE`, are what `cargo xtask bench` holds to `cross/bench.toml`: the
//! dearest of the frames, less the empty program, as a multiple of one lookup in a hash map by a key
//! of 16 bytes. Such a ratio hardly depends on the machine, a time does.
//!
//! `--beside OBJECT:PROGRAM` measures an XDP program of somebody else in the same run. `--repeat N` runs each
//! program so often in a round: on a machine whose clock counts instructions (`cargo xtask vm --icount`) a
//! nanosecond is one, and a few thousand are enough.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use sluice::dataplane::values::Values;
use sluice::sys::bpf::{ProgramKind, load_constant};
use sluice_abi::attach::{Attachment, Link, Role};
use sluice_abi::flow::{FlowKey, FlowState};
use sluice_abi::limits::{Limits, prefix_mask};
use sluice_abi::settings::Settings;
use sluice_abi::shield::Rate;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_abi::{ABI_VERSION, names};
use sluice_datapath::parse::headers;
use sluice_tests::testrun::{self, TC_ACT_UNSPEC, XDP_PASS, op};

const ROUNDS: usize = 9;
/// Runs of a program in a round, unless `--repeat` says something else.
const REPEAT: u32 = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { repeat, mut beside } = Arguments::read()?;
    let pins = Pins::new()?;
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf").join(endianness());
    let attachment = bits(Attachment::new(0, Role::Wan, Link::Ethernet));
    let values = Values::open(|name| pins.0.join(name))?;
    let object = |name: &'static str| {
        let object = std::fs::read(objects.join(name).with_extension("o"))?;
        Ok::<_, Box<dyn Error>>(values.put_into(name, &object)?)
    };
    let mut shield = EbpfLoader::new()
        .default_map_pin_directory(&pins.0)
        .override_global(names::ATTACHMENT, &attachment, true)
        .override_global(names::BUCKET_MASK, &4095_u32, true)
        .map_max_entries(names::BUCKETS, 4096)
        .map_max_entries(names::BLOCK_HOSTS, 65_536)
        .map_max_entries(names::BLOCK_NETS, 16_384)
        .map_max_entries(names::ALLOW_NETS, 1024)
        .load(&object("xdp_shield")?)?;
    let mut flow = EbpfLoader::new()
        .default_map_pin_directory(&pins.0)
        .override_global(names::ATTACHMENT, &attachment, true)
        .map_max_entries(names::FLOWS, 16_384)
        .map_max_entries(names::FLOW_COUNTS, 8192)
        .load(&object("tc_flow")?)?;

    let program: &mut Xdp =
        shield.program_mut(names::XDP_SHIELD).ok_or("no xdp_shield")?.try_into()?;
    program.load()?;
    describe(names::XDP_SHIELD, &program.info()?);
    let xdp = program.fd()?.try_clone()?;
    let mut classifiers = Vec::new();
    for name in [names::TC_FLOW_IN, names::TC_FLOW_OUT] {
        let program: &mut SchedClassifier =
            flow.program_mut(name).ok_or("no tc_flow")?.try_into()?;
        program.load()?;
        describe(name, &program.info()?);
        classifiers.push(program.fd()?.try_clone()?);
    }

    let frames = frames();
    println!("\nns per packet, minimum/median of {ROUNDS} rounds of {repeat}");
    print!("{:28}", "");
    for (name, _) in &frames {
        print!("{name:>14}");
    }
    println!();

    let empty_xdp = load_constant(ProgramKind::Xdp, XDP_PASS)?;
    let empty_tc = load_constant(ProgramKind::Tc, TC_ACT_UNSPEC)?;
    let lookup_map = testrun::map(testrun::HASH, 16, 8, 65_536)?;
    let lookup_xdp = yardstick(testrun::XDP, XDP_PASS, &lookup_map)?;
    let lookup_tc = yardstick(testrun::TC, TC_ACT_UNSPEC, &lookup_map)?;
    let mut ratios = Ratios {
        floor: row("empty, XDP_PASS", empty_xdp.as_fd(), &frames, repeat)?,
        lookup: row("one hash lookup", lookup_xdp.as_fd(), &frames, repeat)?,
        rows: Vec::new(),
    };
    for (name, change) in settings() {
        let mut map: Array<_, Settings> = Array::try_from(pins.value(names::SETTINGS)?)?;
        map.set(0, change, 0)?;
        let name = format!("xdp_shield, {name}");
        ratios.add(&name, &row(&name, xdp.as_fd(), &frames, repeat)?);
    }
    for (name, ebpf) in &mut beside {
        let program: &mut Xdp = ebpf.program_mut(name).ok_or("no such program")?.try_into()?;
        program.load()?;
        describe(name, &program.info()?);
        let fd = program.fd()?.try_clone()?;
        row(name, fd.as_fd(), &frames, repeat)?;
    }
    ratios.floor = row("empty, TC_ACT_UNSPEC", empty_tc.as_fd(), &frames, repeat)?;
    ratios.lookup = row("one hash lookup", lookup_tc.as_fd(), &frames, repeat)?;
    for (name, verdict) in
        [("miss", None), ("trusted", Some(Verdict::Trusted)), ("blocked", Some(Verdict::Blocked))]
    {
        if let Some(verdict) = verdict {
            let mut flows: HashMap<_, FlowKey, FlowState> =
                HashMap::try_from(map(&mut flow, names::FLOWS)?)?;
            for (_, frame) in &frames {
                let (key, original) = headers(frame.as_slice(), Link::Ethernet)
                    .ok()
                    .and_then(|headers| headers.flow())
                    .ok_or("a frame without flow")?;
                flows.insert(key, FlowState::new(verdict, Reason::WindowEnd, original, 1, 0), 0)?;
            }
            let mut epoch: Array<_, u32> = Array::try_from(pins.value(names::EPOCH)?)?;
            epoch.set(0, verdict as u32, 0)?;
        }
        for (program, classifier) in ["tc_flow_in", "tc_flow_out"].iter().zip(&classifiers) {
            let name = format!("{program}, {name}");
            ratios.add(&name, &row(&name, classifier.as_fd(), &frames, repeat)?);
        }
    }
    println!();
    println!("test bench ... ok");
    for (name, ratio) in ratios.rows {
        println!("ratio {} {ratio:.2}", name.replace(", ", "/").replace(' ', "_"));
    }
    Ok(())
}

/// Costs as multiples of one hash lookup.
struct Ratios {
    /// Minima of the empty program, by frame.
    floor: Vec<f64>,
    /// Minima of the program with one lookup.
    lookup: Vec<f64>,
    rows: Vec<(String, f64)>,
}

impl Ratios {
    fn add(&mut self, name: &str, minima: &[f64]) {
        let frames = self.floor.iter().zip(&self.lookup).zip(minima);
        let ratios = frames.map(|((floor, lookup), time)| (time - floor) / (lookup - floor));
        self.rows.push((name.to_owned(), ratios.fold(f64::MIN, f64::max)));
    }
}

/// What the arguments say.
struct Arguments {
    repeat: u32,
    /// Objects of others with the program of each.
    beside: Vec<(String, Ebpf)>,
}

impl Arguments {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut read = Self { repeat: REPEAT, beside: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match (argument.as_str(), arguments.next()) {
                ("--repeat", Some(value)) => read.repeat = value.parse()?,
                ("--beside", Some(value)) => {
                    let (file, program) =
                        value.rsplit_once(':').ok_or("--beside OBJECT:PROGRAM")?;
                    let ebpf = EbpfLoader::new().allow_unsupported_maps().load_file(file)?;
                    read.beside.push((program.to_owned(), ebpf));
                }
                _ => return Err("usage: bench [--repeat N] [--beside OBJECT:PROGRAM]...".into()),
            }
        }
        Ok(read)
    }
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map, String> {
    ebpf.map_mut(name).ok_or_else(|| format!("no map {name}"))
}

const fn endianness() -> &'static str {
    if cfg!(target_endian = "little") { "bpfel" } else { "bpfeb" }
}

fn bits(attachment: Attachment) -> u32 {
    bytemuck::cast(attachment)
}

fn describe(name: &str, info: &aya::programs::ProgramInfo) {
    println!(
        "{name}: {} instructions ({} bytes jited), {} walked by the verifier",
        info.size_translated().map_or(0, |bytes| bytes / 8),
        info.size_jitted(),
        info.verified_instruction_count().unwrap_or(0),
    );
}

fn settings() -> Vec<(&'static str, Settings)> {
    let on = Settings {
        abi: ABI_VERSION,
        flags: Settings::ENABLED,
        mark_mask: 0x0700_0000,
        mark_trusted: 0x0100_0000,
        hash_key: 0x5eed,
        limits: Limits { source_mask_v6: prefix_mask(64), ..Limits::default() },
        ..Settings::default()
    };
    let lists =
        Settings { flags: Settings::ENABLED | Settings::BLOCK_HOSTS | Settings::BLOCK_NETS, ..on };
    let rate = Rate { per_second: Rate::MAX, burst: Rate::MAX };
    vec![
        ("off", Settings::default()),
        ("parse", on),
        ("+ list miss", lists),
        ("parse + checks", limited(on, |_| {})),
        (
            "parse + checks + rates",
            limited(on, |limits| {
                (limits.source, limits.source_syn) = (rate, rate);
            }),
        ),
        (
            "+ list miss + rates",
            limited(lists, |limits| {
                (limits.source, limits.source_syn) = (rate, rate);
            }),
        ),
        (
            "every check and rate",
            limited(on, |limits| {
                limits.checks = Limits::ADDRESSES
                    | Limits::TCP_FLAGS
                    | Limits::MULTICAST_EXEMPT
                    | Limits::SCANS;
                (limits.source, limits.source_syn, limits.source_icmp) = (rate, rate, rate);
                (limits.destination, limits.destination_syn, limits.amplification) =
                    (rate, rate, rate);
            }),
        ),
    ]
}

/// With the checks that are on unless they are switched off, and what `change` says.
fn limited(settings: Settings, change: impl FnOnce(&mut Limits)) -> Settings {
    let mut limits = settings.limits;
    limits.checks = Limits::MARTIAN | Limits::TCP_FLAGS | Limits::MULTICAST_EXEMPT | Limits::SCANS;
    change(&mut limits);
    Settings { limits: limits.completed(sluice::sys::clock::tick()), ..settings }
}

/// The five packet kinds of the yardsticks.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let ethernet = |kind: &[u8], parts: &[&[u8]], len: usize| {
        let mut frame = vec![2; 12];
        frame.extend(kind);
        for part in parts {
            frame.extend(*part);
        }
        frame.resize(frame.len().max(len), 0);
        frame
    };
    let ipv4 = |proto| {
        [&[0x45, 0, 0, 60, 0, 1, 0, 0, 64, proto, 0, 0][..], &[93, 184, 216, 34, 198, 51, 100, 7]]
            .concat()
    };
    let mut ipv6 = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    for end in [1, 2] {
        ipv6.extend([0x2a, 0, 0x14, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
    }
    let tcp = |flags| {
        [&[0x12, 0x34, 1, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0x50, flags, 0, 0, 0, 0, 0, 0]]
            .concat()
    };
    let udp = [0x12, 0x34, 0, 53, 0, 8, 0, 0];
    let (v4, v6) = (&[0x08, 0x00][..], &[0x86, 0xdd][..]);
    vec![
        ("ack4", ethernet(v4, &[&ipv4(6), &tcp(0x10)], 60)),
        ("dns4", ethernet(v4, &[&ipv4(17), &udp], 82)),
        ("tcp6", ethernet(v6, &[&ipv6, &tcp(0x10)], 74)),
        ("vlan4", ethernet(&[0x81, 0, 0, 5, 8, 0], &[&ipv4(6), &tcp(0x10)], 64)),
        ("data1500", ethernet(v4, &[&ipv4(6), &tcp(0x18)], 1514)),
    ]
}

/// Prints a line of the table; the minima by frame.
fn row(
    name: &str,
    program: BorrowedFd<'_>,
    frames: &[(&str, Vec<u8>)],
    repeat: u32,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut times = vec![Vec::new(); frames.len()];
    for round in 0..ROUNDS {
        for index in 0..frames.len() {
            let index = if round % 2 == 0 { index } else { frames.len() - 1 - index };
            times[index].push(testrun::run(program, &frames[index].1, repeat, None)?.each_ns);
        }
    }
    print!("{name:28}");
    for times in &mut times {
        times.sort_by(f64::total_cmp);
        print!("{:>14}", format!("{:.1}/{:.1}", times[0], times[ROUNDS / 2]));
    }
    println!();
    Ok(times.iter().map(|times| times[0]).collect())
}

/// A program that only returns `action`, after one lookup in `map`.
fn yardstick(kind: u32, action: i32, map: &OwnedFd) -> io::Result<OwnedFd> {
    testrun::program(
        kind,
        &[
            op(0x7a, 10, 0, -8, 1),             // *(u64 *)(r10 - 8) = 1
            op(0x7a, 10, 0, -16, 1),            // *(u64 *)(r10 - 16) = 1
            op(0x18, 1, 1, 0, map.as_raw_fd()), // r1 = map
            op(0, 0, 0, 0, 0),
            op(0xbf, 2, 10, 0, 0),  // r2 = r10
            op(0x07, 2, 0, 0, -16), // r2 -= 16
            op(0x85, 0, 0, 0, 1),   // bpf_map_lookup_elem
            op(0xb7, 0, 0, 0, action),
            op(0x95, 0, 0, 0, 0),
        ],
    )
}

/// A pin directory that goes away with the process.
struct Pins(PathBuf);

impl Pins {
    fn new() -> io::Result<Self> {
        let dir = PathBuf::from(format!("/sys/fs/bpf/sluice-bench-{}", std::process::id()));
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }

    /// An array that programs read without a lookup.
    fn value(&self, name: &str) -> Result<Map, aya::maps::MapError> {
        MapData::from_pin(self.0.join(name)).map(Map::Array)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
