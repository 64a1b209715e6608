//! The programs alone, run by `BPF_PROG_TEST_RUN`: loaded with maps of their own, next to whatever
//! else runs on the machine.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test ends where what it needs is missing"
)]

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use aya::maps::{HashMap, Map, MapData};
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, Xdp};
use aya::{Ebpf, EbpfLoader, TestRunOptions};
use sluice::dataplane::blocklist::Room;
use sluice::dataplane::object::Objects;
use sluice::dataplane::profiles::ProfileMap;
use sluice::dataplane::values::Values;
use sluice::dataplane::{
    Blocklist, Bulk, FlowMaps, Flows, Hits, Messages, SettingsMap, Strangers, Totals,
};
use sluice::kernel::Need;
use sluice::kernel::probe::probe;
use sluice_abi::attach::{Attachment, Link, Role};
use sluice_abi::counter::Counter;
use sluice_abi::flow::{Direction, FlowKey, FlowState};
use sluice_abi::limits::{Limits, prefix_mask};
use sluice_abi::names;
use sluice_abi::settings::Settings;
use sluice_datapath::parse::headers;

use crate::directory::{abandoned, unique};
use crate::error::{Attempt as _, Result};
use crate::netns;
use crate::skip::{skipped, without_root};

/// Where bpffs is mounted.
const BPFFS: &str = "/sys/fs/bpf";

/// Sets of source buckets of a [`Shield`].
pub const BUCKET_SETS: u32 = 1024;
/// Keys of decided flows of a [`FastPath`].
pub const FLOW_KEYS: u32 = 1024;
/// Keys of blocked and limited flows of a [`FastPath`].
pub const HELD_KEYS: u32 = 256;
/// Decided flows of a [`FastPath`].
pub const FLOW_SLOTS: u32 = 4096;

/// Whether programs cannot be run; otherwise reports the test as skipped.
#[must_use]
pub fn without_programs() -> bool {
    static SWEPT: Once = Once::new();
    if without_root() {
        return true;
    }
    // What a run that was killed left behind would be in nobody's way, but stay for ever.
    SWEPT.call_once(|| {
        sweep();
        netns::sweep().unwrap();
    });
    let objects = Objects::embedded();
    let built = !objects.xdp_shield.is_empty() && !objects.tc_flow.is_empty();
    if !built {
        skipped("needs the eBPF objects: cargo xtask ebpf");
    }
    !built
}

/// A directory on bpffs that goes with its guard.
#[derive(Debug)]
pub struct PinDir(PathBuf);

impl PinDir {
    /// Makes it.
    pub fn new() -> Result<Self> {
        let dir = Self::unmade();
        let made = fs::DirBuilder::new().mode(0o700).create(&dir.0);
        made.attempt(|| format!("make {}", dir.0.display()))?;
        Ok(dir)
    }

    /// A name for one that somebody else makes.
    #[must_use]
    pub fn unmade() -> Self {
        Self(Path::new(BPFFS).join(unique("pins")))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        // What is left only costs memory until the next sweep.
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// Removes pins of runs that were killed and could not clean up.
fn sweep() {
    for entry in fs::read_dir(BPFFS).into_iter().flatten().flatten() {
        if abandoned(&entry.file_name().to_string_lossy()) {
            drop(PinDir(entry.path()));
        }
    }
}

/// Whether the kernel makes SYN cookies for programs.
#[must_use]
pub fn has_cookies() -> bool {
    probe(Need::SynCookies).0.is_yes()
}

/// The object with its maps, and what has to stay open until its programs are loaded.
fn load(object: &[u8], attachment: Attachment, pins: &PinDir, cookies: bool) -> (Ebpf, Values) {
    let values = Values::open(|name| pins.path().join(name)).unwrap();
    let object = values.put_into("of the test", object).unwrap();
    let ebpf = EbpfLoader::new()
        .btf(None)
        .override_global(names::ATTACHMENT, &attachment, true)
        .override_global(names::BUCKET_MASK, &(BUCKET_SETS - 1), false)
        .override_global(names::COOKIES, &u32::from(cookies), false)
        .map_max_entries(names::FLOWS, FLOW_KEYS)
        .map_max_entries(names::FLOW_COUNTS, FLOW_SLOTS)
        .map_max_entries(names::HELD, HELD_KEYS)
        .map_max_entries(names::LIMITS, HELD_KEYS)
        .map_max_entries(names::BLOCK_HOSTS, 1024)
        .map_max_entries(names::BLOCK_NETS, 1024)
        .map_max_entries(names::ALLOW_NETS, 64)
        .map_max_entries(names::BUCKETS, BUCKET_SETS)
        .default_map_pin_directory(pins.path())
        .load(&object)
        .unwrap();
    (ebpf, values)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Map {
    ebpf.take_map(name).unwrap_or_else(|| unreachable!("the object has no map {name}"))
}

/// An array that programs read without a lookup, so that the object does not have it.
fn value(pins: &PinDir, name: &str) -> Map {
    Map::Array(MapData::from_pin(pins.path().join(name)).unwrap())
}

/// Settings with everything on that a test has not switched.
#[must_use]
pub fn enabled() -> Settings {
    Settings {
        flags: Settings::ENABLED,
        mark_mask: 0x0f00_0000,
        mark_trusted: 0x0100_0000,
        mark_asked: 0x0200_0000,
        hash_key: 0x5eed,
        limits: Limits { source_mask_v6: prefix_mask(64), ..Limits::default() },
        ..Settings::default()
    }
}

/// The same with limits.
#[must_use]
pub fn limited(change: impl FnOnce(&mut Limits)) -> Settings {
    let mut settings = enabled();
    change(&mut settings.limits);
    settings
}

/// The shield.
pub struct Shield {
    ebpf: Ebpf,
    attachment: Attachment,
    /// What it is told; off until a test switches it on.
    pub settings: SettingsMap,
    /// What it counted.
    pub totals: Totals,
    /// Its lists.
    pub blocklist: Blocklist,
    /// What they dropped.
    pub hits: Hits,
    /// The image of the configured ones.
    pub bulk: Bulk,
    /// What it knows of strangers.
    pub strangers: Strangers,
    pins: PinDir,
}

/// Room in the lists of a [`Shield`].
const ROOM: Room = Room { hosts: 1024, nets: 1024, allow: 64 };

impl Shield {
    /// Loads it for an interface in slot 3.
    #[must_use]
    pub fn new(role: Role, link: Link) -> Self {
        Self::with(Attachment::new(3, role, link))
    }

    /// Loads the copy that hands packets to other processors, which have no part of the flows yet.
    #[must_use]
    pub fn spreading(role: Role, link: Link) -> Self {
        Self::with(Attachment::new(3, role, link).spreading())
    }

    fn with(attachment: Attachment) -> Self {
        let pins = PinDir::new().unwrap();
        let (mut ebpf, _values) =
            load(Objects::embedded().xdp_shield, attachment, &pins, has_cookies());
        let xdp: &mut Xdp = ebpf.program_mut(names::XDP_SHIELD).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        let mut map = |name| take(&mut ebpf, name);
        let blocklist = Blocklist::new(
            map(names::BLOCK_HOSTS),
            map(names::BLOCK_NETS),
            map(names::ALLOW_NETS),
            value(&pins, names::LIVE),
            ROOM,
        );
        let strangers = Strangers::new(
            map(names::OFFENDERS),
            map(names::SCANS),
            map(names::KNOWN),
            map(names::OWN),
            map(names::ATTACKED),
        );
        Self {
            attachment,
            settings: SettingsMap::new(value(&pins, names::SETTINGS)).unwrap(),
            totals: Totals::new(map(names::TOTALS)).unwrap(),
            blocklist: blocklist.unwrap(),
            hits: Hits::new(map(names::LIST_HITS)).unwrap(),
            bulk: Bulk::new(map(names::BULK)).unwrap(),
            strangers: strangers.unwrap(),
            ebpf,
            pins,
        }
    }

    /// One of its maps, opened once more.
    #[must_use]
    pub fn pinned(&self, name: &str) -> MapData {
        MapData::from_pin(self.pins.path().join(name)).unwrap()
    }

    /// Its lists as an agent finds them that comes after another one.
    #[must_use]
    pub fn blocklist_found(&self) -> Blocklist {
        Blocklist::new(
            Map::HashMap(self.pinned(names::BLOCK_HOSTS)),
            Map::LpmTrie(self.pinned(names::BLOCK_NETS)),
            Map::LpmTrie(self.pinned(names::ALLOW_NETS)),
            Map::Array(self.pinned(names::LIVE)),
            ROOM,
        )
        .unwrap()
    }

    /// A map that has no place above.
    #[must_use]
    pub fn take(&mut self, name: &str) -> Map {
        take(&mut self.ebpf, name)
    }

    /// One that works, with both kinds of lists in use.
    #[must_use]
    pub fn enabled(role: Role, link: Link) -> Self {
        let mut shield = Self::new(role, link);
        shield.settings.set(enabled()).unwrap();
        shield.settings.set_lists(true, true).unwrap();
        shield
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Xdp {
        self.ebpf.program(names::XDP_SHIELD).unwrap().try_into().unwrap()
    }

    /// Shows it a frame `times` times and returns what it said last, and what it counted meanwhile
    /// (nothing that stayed the same).
    #[must_use]
    pub fn run(&self, frame: &[u8], times: u32) -> (u32, Vec<(Counter, u64)>) {
        let before = self.counts();
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = times;
        let result = self.program().test_run(options).unwrap();
        (result.return_value, changes(&before, &self.counts()))
    }

    /// Shows it a frame once and returns what it said, and what became of the frame.
    #[must_use]
    pub fn changed(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut after = vec![0; 2048];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut after);
        let result = self.program().test_run(options).unwrap();
        let (said, size) = (result.return_value, result.data_size_out as usize);
        after.truncate(size);
        (said, after)
    }

    fn counts(&self) -> Vec<u64> {
        counts(&self.totals, self.attachment)
    }
}

/// Loads the shield from another object, for an interface towards the provider.
pub fn load_shield(object: &[u8], cookies: bool) -> std::result::Result<(), ProgramError> {
    let pins = PinDir::new().unwrap();
    let attachment = Attachment::new(3, Role::Wan, Link::Ethernet);
    let (mut ebpf, _values) = load(object, attachment, &pins, cookies);
    let xdp: &mut Xdp = ebpf.program_mut(names::XDP_SHIELD).unwrap().try_into().unwrap();
    xdp.load()
}

/// The fast path.
pub struct FastPath {
    ebpf: Ebpf,
    attachment: Attachment,
    /// What it is told; off until a test switches it on.
    pub settings: SettingsMap,
    /// What it counted.
    pub totals: Totals,
    /// Decided flows.
    pub flows: Flows,
    /// What they look like when they leave.
    pub profiles: ProfileMap,
    pins: PinDir,
}

/// Which program of the fast path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// `tc_flow_in`.
    In,
    /// `tc_flow_out`.
    Out,
}

/// What became of a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// What the program returned.
    pub action: i32,
    /// The packet's mark afterwards.
    pub mark: u32,
    /// What was counted.
    pub counted: Vec<(Counter, u64)>,
}

/// A packet behind a program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sent {
    /// What the program said and counted.
    pub outcome: Outcome,
    /// The frame.
    pub frame: Vec<u8>,
    /// Its priority.
    pub priority: u32,
}

/// A buffer that a classifier sees: the frame, and what is beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffer {
    /// Mark before.
    pub mark: u32,
    /// Segments that were merged into it; 0 for none.
    pub segments: u32,
}

impl FastPath {
    /// Loads it for an interface in slot 5.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self::of(Role::Lan, link)
    }

    /// Loads it for an interface in slot 5 with this role.
    #[must_use]
    pub fn of(role: Role, link: Link) -> Self {
        Self::load(Attachment::new(5, role, link))
    }

    /// The same, of the copy that does the shield's work as well.
    #[must_use]
    pub fn shielding(role: Role, link: Link) -> Self {
        Self::load(Attachment::new(5, role, link).shielding())
    }

    fn load(attachment: Attachment) -> Self {
        let pins = PinDir::new().unwrap();
        let (mut ebpf, _values) = load(Objects::embedded().tc_flow, attachment, &pins, false);
        for name in [names::TC_FLOW_IN, names::TC_FLOW_OUT] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        let mut map = |name| take(&mut ebpf, name);
        Self {
            attachment,
            settings: SettingsMap::new(value(&pins, names::SETTINGS)).unwrap(),
            totals: Totals::new(map(names::TOTALS)).unwrap(),
            flows: Flows::new(FlowMaps {
                flows: map(names::FLOWS),
                held: map(names::HELD),
                limits: map(names::LIMITS),
                counts: map(names::FLOW_COUNTS),
                epoch: value(&pins, names::EPOCH),
            })
            .unwrap(),
            profiles: ProfileMap::new(map(names::PROFILES)).unwrap(),
            ebpf,
            pins,
        }
    }

    /// One that works.
    #[must_use]
    pub fn enabled(link: Link) -> Self {
        let mut path = Self::new(link);
        path.settings.set(enabled()).unwrap();
        path
    }

    /// A reader of the DNS messages that it tells.
    #[must_use]
    pub fn messages(&self) -> Messages {
        Messages::open(&self.pins.path().join(names::MESSAGES)).unwrap()
    }

    /// Takes the decision about a trusted flow out of the map, as the kernel does when the map is full: the
    /// agent does not know.
    pub fn evict(&self, key: &FlowKey) {
        let map = MapData::from_pin(self.pins.path().join(names::FLOWS)).unwrap();
        let mut flows: HashMap<_, FlowKey, FlowState> =
            HashMap::try_from(Map::LruHashMap(map)).unwrap();
        flows.remove(key).unwrap();
    }

    /// One of the programs.
    #[must_use]
    pub fn program(&self, side: Side) -> &SchedClassifier {
        let name = match side {
            Side::In => names::TC_FLOW_IN,
            Side::Out => names::TC_FLOW_OUT,
        };
        self.ebpf.program(name).unwrap().try_into().unwrap()
    }

    /// Shows a program a frame.
    #[must_use]
    pub fn run(&self, side: Side, frame: &[u8], buffer: Buffer) -> Outcome {
        self.try_run(side, frame, buffer).unwrap()
    }

    /// Shows a program a frame that the kernel may refuse to make a buffer of.
    pub fn try_run(
        &self,
        side: Side,
        frame: &[u8],
        buffer: Buffer,
    ) -> std::result::Result<Outcome, ProgramError> {
        self.try_send(side, frame, buffer, 1).map(|sent| sent.outcome)
    }

    /// Shows a program a frame, and gives back what became of it.
    #[must_use]
    pub fn send(&self, side: Side, frame: &[u8], buffer: Buffer) -> Sent {
        self.try_send(side, frame, buffer, 1).unwrap()
    }

    /// Shows a program a frame `times` times, and gives back what it counted.
    #[must_use]
    pub fn flood(&self, side: Side, frame: &[u8], buffer: Buffer, times: u32) -> Outcome {
        self.try_send(side, frame, buffer, times).unwrap().outcome
    }

    fn try_send(
        &self,
        side: Side,
        frame: &[u8],
        buffer: Buffer,
        times: u32,
    ) -> std::result::Result<Sent, ProgramError> {
        // Offsets in `struct __sk_buff`, which only grows.
        const LEN: usize = 192;
        const MARK: usize = 8;
        const PRIORITY: usize = 32;
        const GSO_SEGS: usize = 164;
        let mut context = [0_u8; LEN];
        context[MARK..MARK + 4].copy_from_slice(&buffer.mark.to_ne_bytes());
        context[GSO_SEGS..GSO_SEGS + 4].copy_from_slice(&buffer.segments.to_ne_bytes());
        let mut after = [0_u8; LEN];
        let before = counts(&self.totals, self.attachment);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.ctx_in = Some(&context);
        options.ctx_out = Some(&mut after);
        options.repeat = times;
        let mut left = vec![0; frame.len() + 64];
        options.data_out = Some(&mut left);
        let result = self.program(side).test_run(options)?;
        left.truncate(result.data_size_out as usize);
        let word = |at: usize| u32::from_ne_bytes(after[at..at + 4].try_into().unwrap());
        let outcome = Outcome {
            action: result.return_value.cast_signed(),
            mark: word(MARK),
            counted: changes(&before, &counts(&self.totals, self.attachment)),
        };
        Ok(Sent { outcome, frame: left, priority: word(PRIORITY) })
    }

    /// Decides about the flow of `frame`, whose first packet it is.
    pub fn decide(&mut self, frame: &[u8], state: impl FnOnce(Direction) -> FlowState) -> FlowKey {
        let headers = headers(frame, self.attachment.link()).unwrap();
        let (key, direction) = headers.flow().unwrap();
        self.flows.set(&key, &state(direction)).unwrap();
        key
    }
}

fn counts(totals: &Totals, attachment: Attachment) -> Vec<u64> {
    let read = |counter| totals.count(attachment.slot(), counter).unwrap();
    Counter::ALL.into_iter().map(read).collect()
}

fn changes(before: &[u64], after: &[u64]) -> Vec<(Counter, u64)> {
    let change = |(counter, (before, after)): (Counter, (&u64, &u64))| (counter, after - before);
    let all = Counter::ALL.into_iter().zip(before.iter().zip(after)).map(change);
    all.filter(|(counter, change)| *change > 0 && counter.is_of_packets()).collect()
}

/// The address that `frame` comes from, or goes to on a LAN interface: what the shield looks up.
#[must_use]
pub fn looked_up(frame: &[u8], role: Role, link: Link) -> IpAddr {
    let headers = headers(frame, link).unwrap();
    match role {
        Role::Wan => headers.src.into(),
        Role::Lan => headers.dst.into(),
    }
}
