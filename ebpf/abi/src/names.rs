//! Names that loader, programs and tests share. The kernel keeps fifteen characters.

/// Decisions: [`FlowKey`](crate::flow::FlowKey) to [`FlowState`](crate::flow::FlowState), LRU.
pub const FLOWS: &str = "FLOWS";
/// Per-CPU [`FlowCount`](crate::flow::FlowCount) by slot.
pub const FLOW_COUNTS: &str = "FLOW_COUNTS";
/// Decisions that no flood of others may displace, blocked and limited flows:
/// [`FlowKey`](crate::flow::FlowKey) to [`FlowState`](crate::flow::FlowState), hash.
pub const HELD: &str = "HELD";
/// [`FlowLimit`](crate::flow::FlowLimit) by slot.
pub const LIMITS: &str = "LIMITS";
/// One `u32` that changes behind every change of a decision.
pub const EPOCH: &str = "EPOCH";
/// Per-CPU [`Recent`](crate::flow::Recent) by [`Recent::index`](crate::flow::Recent::index).
pub const RECENT: &str = "RECENT";
/// [`Profile`](crate::profile::Profile) by number.
pub const PROFILES: &str = "PROFILES";
/// Per-CPU [`Tally`](crate::counter::Tally) by slot of the interface.
pub const TOTALS: &str = "TOTALS";
/// One [`Settings`](crate::settings::Settings).
pub const SETTINGS: &str = "SETTINGS";
/// [`Addr`](crate::flow::Addr) to [`BlockEntry`](crate::shield::BlockEntry), hash.
pub const BLOCK_HOSTS: &str = "BLOCK_HOSTS";
/// [`Addr`](crate::flow::Addr) prefix to [`BlockEntry`](crate::shield::BlockEntry), LPM trie; an
/// IPv4 prefix has 96 bits more.
pub const BLOCK_NETS: &str = "BLOCK_NETS";
/// [`Addr`](crate::flow::Addr) prefix to [`AllowEntry`](crate::shield::AllowEntry), LPM trie.
pub const ALLOW_NETS: &str = "ALLOW_NETS";
/// The one [`Live`](crate::live::Live), array.
pub const LIVE: &str = "LIVE";
/// Per-CPU [`ListHits`](crate::shield::ListHits) by list number.
pub const LIST_HITS: &str = "LIST_HITS";
/// [`BucketSet`](crate::shield::BucketSet) by hash; a power of two of sets.
pub const BUCKETS: &str = "BUCKETS";
/// One per-CPU [`Offenders`](crate::limits::Offenders).
pub const OFFENDERS: &str = "OFFENDERS";
/// [`Scan`](crate::limits::Scan) by hash.
pub const SCANS: &str = "SCANS";
/// [`KnownSet`](crate::limits::KnownSet) by hash.
pub const KNOWN: &str = "KNOWN";
/// [`Addr`](crate::flow::Addr) of this router, hash.
pub const OWN: &str = "OWN";
/// [`Addr`](crate::flow::Addr) to [`Attacked`](crate::limits::Attacked), hash.
pub const ATTACKED: &str = "ATTACKED";

/// The image of the configured lists: an array of one map, whose values are
/// [`Chunk`](crate::bulk::Chunk)s.
pub const BULK: &str = "BULK";
/// Processor by number to the queue of the thread that takes packets there, CPU map.
pub const CPUS: &str = "CPUS";
/// Number of a processor and one, by hash of the flow; 0 for the processor that the packet is on.
pub const SPREAD: &str = "SPREAD";

/// DNS messages, each a [`Head`](crate::message::Head) and a packet: a ring buffer.
pub const MESSAGES: &str = "MESSAGES";
/// One per-CPU [`Message`](crate::message::Message) that is being made.
pub const COPY: &str = "COPY";

/// Entries of [`SPREAD`], a power of two.
pub const SPREAD_SLOTS: u32 = 128;

/// The global with the interface's [`Attachment`](crate::attach::Attachment).
pub const ATTACHMENT: &str = "ATTACHMENT";
/// The global with the number of sets in [`BUCKETS`] less one.
pub const BUCKET_MASK: &str = "BUCKET_MASK";
/// The global that says whether this kernel makes SYN cookies for programs: 1, or 0.
pub const COOKIES: &str = "COOKIES";

/// XDP program of the object `xdp_shield`.
pub const XDP_SHIELD: &str = "xdp_shield";
/// Ingress program of the object `tc_flow`.
pub const TC_FLOW_IN: &str = "tc_flow_in";
/// Egress program of the object `tc_flow`.
pub const TC_FLOW_OUT: &str = "tc_flow_out";

/// Program of the object `xdp_device` for interfaces towards the provider.
pub const XDP_DEVICE_WAN: &str = "xdp_device_wan";
/// Program of the object `xdp_device` for interfaces towards the household.
pub const XDP_DEVICE_LAN: &str = "xdp_device_lan";
/// In a network card: [`Addr`](crate::flow::Addr) to packets dropped, hash.
pub const DEVICE_HOSTS: &str = "DEVICE_HOSTS";
/// In a network card: `u64` by [`Total`](crate::device::Total), array.
pub const DEVICE_TOTALS: &str = "DEVICE_TOTALS";

/// Most lists that have hit counters.
pub const LISTS_MAX: u32 = 64;
/// Number of the list of what was blocked by hand.
pub const LIST_MANUAL: u32 = 62;
/// Number of the list of what was blocked automatically.
pub const LIST_AUTOMATIC: u32 = 63;
/// Most lists of the configuration.
pub const LISTS_CONFIGURED_MAX: u32 = LIST_MANUAL;
