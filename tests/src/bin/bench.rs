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
//! `--beside OBJECT:PROGRAM` measures an XDP program of somebody else in the same run.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::error::Error;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};
use sluice_abi::attach::{Attachment, Link, Role};
use sluice_abi::flow::{FlowKey, FlowState};
use sluice_abi::limits::{Limits, prefix_mask};
use sluice_abi::settings::Settings;
use sluice_abi::shield::Rate;
use sluice_abi::verdict::{Reason, Verdict};
use sluice_abi::{ABI_VERSION, names};
use sluice_datapath::parse::headers;

const ROUNDS: usize = 9;
const REPEAT: u32 = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let pins = Pins::new()?;
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf").join(endianness());
    let attachment = bits(Attachment::new(0, Role::Wan, Link::Ethernet));
    let mut shield = EbpfLoader::new()
        .default_map_pin_directory(&pins.0)
        .override_global(names::ATTACHMENT, &attachment, true)
        .override_global(names::BUCKET_MASK, &4095_u32, true)
        .map_max_entries(names::BUCKETS, 4096)
        .map_max_entries(names::BLOCK_HOSTS, 65_536)
        .map_max_entries(names::BLOCK_NETS, 16_384)
        .map_max_entries(names::ALLOW_NETS, 1024)
        .load(&std::fs::read(objects.join("xdp_shield.o"))?)?;
    let mut flow = EbpfLoader::new()
        .default_map_pin_directory(&pins.0)
        .override_global(names::ATTACHMENT, &attachment, true)
        .map_max_entries(names::FLOWS, 16_384)
        .map_max_entries(names::FLOW_COUNTS, 8192)
        .load(&std::fs::read(objects.join("tc_flow.o"))?)?;

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
    println!("\nns per packet, minimum/median of {ROUNDS} rounds of {REPEAT}");
    print!("{:28}", "");
    for (name, _) in &frames {
        print!("{name:>14}");
    }
    println!();

    let empty_xdp = yardstick(6, 2, None)?;
    let empty_tc = yardstick(3, -1, None)?;
    let lookup_map = hash_map()?;
    let lookup_xdp = yardstick(6, 2, Some(lookup_map.as_raw_fd()))?;
    let lookup_tc = yardstick(3, -1, Some(lookup_map.as_raw_fd()))?;
    let mut ratios = Ratios {
        floor: row("empty, XDP_PASS", empty_xdp.as_raw_fd(), &frames)?,
        lookup: row("one hash lookup", lookup_xdp.as_raw_fd(), &frames)?,
        rows: Vec::new(),
    };
    for (name, change) in settings() {
        let mut map: Array<_, Settings> = Array::try_from(map(&mut shield, names::SETTINGS)?)?;
        map.set(0, change, 0)?;
        let name = format!("xdp_shield, {name}");
        ratios.add(&name, &row(&name, xdp.as_fd_raw(), &frames)?);
    }
    for (name, ebpf) in &mut beside()? {
        let program: &mut Xdp = ebpf.program_mut(name).ok_or("no such program")?.try_into()?;
        program.load()?;
        describe(name, &program.info()?);
        let fd = program.fd()?.try_clone()?;
        row(name, fd.as_fd_raw(), &frames)?;
    }
    ratios.floor = row("empty, TC_ACT_UNSPEC", empty_tc.as_raw_fd(), &frames)?;
    ratios.lookup = row("one hash lookup", lookup_tc.as_raw_fd(), &frames)?;
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
        }
        for (program, classifier) in ["tc_flow_in", "tc_flow_out"].iter().zip(&classifiers) {
            let name = format!("{program}, {name}");
            ratios.add(&name, &row(&name, classifier.as_fd_raw(), &frames)?);
        }
    }
    println!();
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

/// The objects behind `--beside` with the program of each.
fn beside() -> Result<Vec<(String, Ebpf)>, Box<dyn Error>> {
    let mut others = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = if argument == "--beside" { arguments.next() } else { None };
        let value = value.ok_or("usage: bench [--beside OBJECT:PROGRAM]...")?;
        let (file, program) = value.rsplit_once(':').ok_or("--beside OBJECT:PROGRAM")?;
        let mut loader = EbpfLoader::new();
        others.push((program.to_owned(), loader.allow_unsupported_maps().load_file(file)?));
    }
    Ok(others)
}

trait AsFdRaw {
    fn as_fd_raw(&self) -> RawFd;
}
impl AsFdRaw for aya::programs::ProgramFd {
    fn as_fd_raw(&self) -> RawFd {
        use std::os::fd::AsFd as _;
        self.as_fd().as_raw_fd()
    }
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map, String> {
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
        mark_mask: 0x3000_0000,
        mark_trusted: 0x1000_0000,
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
fn row(name: &str, program: RawFd, frames: &[(&str, Vec<u8>)]) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut times = vec![Vec::new(); frames.len()];
    for round in 0..ROUNDS {
        for index in 0..frames.len() {
            let index = if round % 2 == 0 { index } else { frames.len() - 1 - index };
            times[index].push(run(program, &frames[index].1)?);
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

/// `union bpf_attr` of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    rest: [u64; 4],
}

fn run(program: RawFd, frame: &[u8]) -> Result<f64, Box<dyn Error>> {
    let mut attr = TestRun {
        prog_fd: program.cast_unsigned(),
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: REPEAT,
        ..TestRun::default()
    };
    let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    // SAFETY: the attribute lives through the call and points at `frame`, which does too.
    let result = unsafe { libc::syscall(libc::SYS_bpf, 10, &raw mut attr, size_of::<TestRun>()) };
    let after = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let spent = (after.tv_sec() - before.tv_sec()) as f64 * 1e9
        + (after.tv_nsec() - before.tv_nsec()) as f64;
    Ok(spent / f64::from(REPEAT))
}

/// An empty hash map with keys of 16 bytes.
fn hash_map() -> Result<OwnedFd, Box<dyn Error>> {
    #[repr(C)]
    #[derive(Default)]
    struct Create {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        rest: [u64; 8],
    }
    let mut attr = Create {
        map_type: 1, // BPF_MAP_TYPE_HASH
        key_size: 16,
        value_size: 8,
        max_entries: 65_536,
        ..Create::default()
    };
    // SAFETY: the attribute lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, 0, &raw mut attr, size_of::<Create>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A program that only returns `action`, after one lookup in `map` if there is one.
fn yardstick(kind: u32, action: i32, map: Option<RawFd>) -> Result<OwnedFd, Box<dyn Error>> {
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        rest: [u64; 12],
    }
    const fn instruction(code: u8, registers: u8, offset: i16, value: i32) -> [u8; 8] {
        let (near, far) = (offset.to_ne_bytes(), value.to_ne_bytes());
        // Destination and source register share a byte as bit fields do.
        let registers =
            if cfg!(target_endian = "little") { registers } else { registers.rotate_left(4) };
        [code, registers, near[0], near[1], far[0], far[1], far[2], far[3]]
    }
    let mut code = Vec::new();
    if let Some(map) = map {
        code.extend([
            instruction(0x7a, 0x0a, -8, 1),  // *(u64 *)(r10 - 8) = 1
            instruction(0x7a, 0x0a, -16, 1), // *(u64 *)(r10 - 16) = 1
            instruction(0x18, 0x11, 0, map), // r1 = map
            instruction(0, 0, 0, 0),
            instruction(0xbf, 0xa2, 0, 0),   // r2 = r10
            instruction(0x07, 0x02, 0, -16), // r2 -= 16
            instruction(0x85, 0, 0, 1),      // bpf_map_lookup_elem
        ]);
    }
    code.extend([instruction(0xb7, 0, 0, action), instruction(0x95, 0, 0, 0)]);
    let mut attr = Load {
        prog_type: kind,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the attribute and what it points at live through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, 5, &raw mut attr, size_of::<Load>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A pin directory that goes away with the process.
struct Pins(PathBuf);

impl Pins {
    fn new() -> std::io::Result<Self> {
        let dir = PathBuf::from(format!("/sys/fs/bpf/sluice-bench-{}", std::process::id()));
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
