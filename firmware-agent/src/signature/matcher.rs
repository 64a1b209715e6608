//! Packets against rules.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::automaton::set_bit;
use super::build::{Entry, PackedGroup, Signatures};
use super::contents::{Search, Spent, Work};
use super::rule::{Action, App, Buffer, Header, Protocol, Transport};
use super::threshold::{Counts, Told};

/// What is known of a packet and its flow.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The protocol below.
    pub transport: Transport,
    /// Where the packet comes from.
    pub source: IpAddr,
    /// From which port, 0 without ports.
    pub source_port: u16,
    /// Where it goes.
    pub destination: IpAddr,
    /// To which port, 0 without ports.
    pub destination_port: u16,
    /// Whether it goes to the side that was connected to.
    pub to_server: bool,
    /// Whether both sides have taken part: for TCP, whether the handshake is complete.
    pub is_established: bool,
    /// Flags of TCP, as in the header.
    pub tcp_flags: u8,
    /// What the flow speaks, once that is known.
    pub app: Option<App>,
    /// The payload of the packet.
    pub payload: &'a [u8],
    /// The stream of this direction from its start as far as it is in order, or as much of its end as
    /// is to be looked at. Empty without TCP, and when this packet added nothing to it.
    pub stream: &'a [u8],
    /// What became known with this packet, each buffer whole. [`Buffer::Payload`] is ignored here.
    pub buffers: &'a [(Buffer, &'a [u8])],
}

/// Most work for one packet, apart from one pass over its bytes for all patterns together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Rules whose contents are compared.
    pub rules_max: u32,
    /// Bytes that are looked at to compare contents, with 16 for each search and each header.
    pub bytes_max: u32,
    /// Counts of `threshold` and `detection_filter` that are kept.
    pub counts_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rules_max: 256, bytes_max: 256 * 1024, counts_max: 4096 }
    }
}

/// A rule that matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match {
    /// Its place, for [`Signatures::msg`].
    pub rule: u32,
    /// Its number.
    pub sid: u32,
    /// The group of its number.
    pub gid: u32,
    /// Its revision.
    pub rev: u32,
    /// Number of its file, for [`Signatures::file`].
    pub file: u16,
    /// The line where it starts.
    pub line: u32,
    /// What it asks for.
    pub action: Action,
    /// Whether the match is to be told; if not, the rule's threshold keeps it quiet.
    pub is_told: bool,
}

/// What a packet matches.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// In the order of their actions. After a match of a `pass` rule no other rule was tried.
    pub matches: &'a [Match],
    /// The work for one packet was not enough to try every rule.
    pub is_cut: bool,
}

impl Found<'_> {
    /// What is to be done about the packet.
    #[must_use]
    pub fn action(&self) -> Option<Action> {
        self.matches.first().map(|first| first.action)
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Packets that were looked at.
    pub packets: u32,
    /// Rules whose contents were compared.
    pub compared: u32,
    /// Rules that matched.
    pub matched: u32,
    /// Packets for which the work was not enough.
    pub cut: u32,
    /// Counts of thresholds that had to go before their time was over.
    pub counts_evicted: u32,
}

/// Compares packets with rules.
#[derive(Debug)]
pub struct Matcher {
    signatures: Arc<Signatures>,
    limits: Limits,
    /// Of this matcher and those that share its rules.
    counts: Arc<Mutex<Counts>>,
    /// A bit for each rule.
    candidates: Box<[u32]>,
    /// A bit for each pattern of the buffer that has most.
    seen: Box<[u32]>,
    matches: Vec<Match>,
    stats: Stats,
}

impl Matcher {
    /// A matcher. `seed` must be random and secret: it keeps strangers from choosing addresses that
    /// push each other's counts out.
    #[must_use]
    pub fn new(signatures: Signatures, limits: Limits, seed: u64) -> Self {
        let counts = Counts::new(limits.counts_max, seed);
        Self::with(Arc::new(signatures), limits, Arc::new(Mutex::new(counts)))
    }

    /// Another one with the same rules, for packets of other flows. What thresholds count they count
    /// together.
    #[must_use]
    pub fn share(&self) -> Self {
        Self::with(Arc::clone(&self.signatures), self.limits, Arc::clone(&self.counts))
    }

    fn with(signatures: Arc<Signatures>, limits: Limits, counts: Arc<Mutex<Counts>>) -> Self {
        let bits = |len: usize| vec![0; len.div_ceil(32)].into_boxed_slice();
        Self {
            candidates: bits(signatures.len()),
            seen: bits(signatures.patterns_max()),
            matches: Vec::new(),
            stats: Stats::default(),
            signatures,
            limits,
            counts,
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// What was counted so far. Counters wrap.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { counts_evicted: counts(&self.counts).evicted(), ..self.stats }
    }

    /// Bytes in use, rules included.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.signatures.memory()
            + counts(&self.counts).memory()
            + (self.candidates.len() + self.seen.len()) * size_of::<u32>()
            + self.matches.capacity() * size_of::<Match>()
    }

    /// Compares a packet with all rules. `now_ms` is monotonic.
    pub fn inspect(&mut self, facts: &Facts<'_>, now_ms: u64) -> Found<'_> {
        self.stats.packets = self.stats.packets.wrapping_add(1);
        self.matches.clear();
        self.choose(facts);
        let mut left = Left { work: Work(self.limits.bytes_max), rules: self.limits.rules_max };
        let mut is_cut = false;
        'rules: for (at, word) in (0..).zip(&self.candidates) {
            let mut word = *word;
            while word != 0 {
                let rule = at * 32 + word.trailing_zeros();
                word &= word - 1;
                let Some(entry) = self.signatures.entries.get(rule as usize) else { continue };
                match matches(&self.signatures, entry, facts, &mut left) {
                    Err(Spent) => {
                        is_cut = true;
                        break 'rules;
                    }
                    Ok(false) => continue,
                    Ok(true) => {}
                }
                let ends = [facts.source, facts.destination];
                let count = |asked| counts(&self.counts).count(rule, asked, ends, now_ms);
                let told = entry.rule.threshold.map_or(Told::Yes, count);
                if told == Told::No || (told == Told::Silent && entry.rule.action == Action::Alert)
                {
                    continue;
                }
                let (is_told, entry) = (told == Told::Yes, &entry.rule);
                let (sid, gid, rev) = (entry.sid, entry.gid, entry.rev);
                let (file, line, action) = (entry.file, entry.line, entry.action);
                self.matches.push(Match { rule, sid, gid, rev, file, line, action, is_told });
                if action == Action::Pass {
                    break 'rules;
                }
            }
        }
        let stats = &mut self.stats;
        stats.compared = stats.compared.wrapping_add(self.limits.rules_max - left.rules);
        stats.matched = stats.matched.wrapping_add(self.matches.len() as u32);
        stats.cut = stats.cut.wrapping_add(u32::from(is_cut));
        Found { matches: &self.matches, is_cut }
    }

    /// Marks the rules that may match.
    fn choose(&mut self, facts: &Facts<'_>) {
        let Self { signatures, candidates, seen, .. } = self;
        candidates.fill(0);
        let mut mark = |rules: &[u32]| {
            for rule in rules {
                set_bit(candidates, *rule);
            }
        };
        mark(&signatures.always);
        let mut look = |buffer: Buffer, text: &[u8]| {
            if let Some(rules) = signatures.unfiltered.get(buffer as usize) {
                mark(rules);
            }
            if let Some(Some(prefilter)) = signatures.prefilters.get(buffer as usize) {
                prefilter.scan(text, seen, |rule| mark(&[rule]));
            }
        };
        for text in payloads(facts, None) {
            look(Buffer::Payload, text);
        }
        for (buffer, text) in facts.buffers {
            if *buffer != Buffer::Payload {
                look(*buffer, text);
            }
        }
    }
}

/// What is left of the work for one packet.
struct Left {
    work: Work,
    rules: u32,
}

/// What thresholds have counted; a count that somebody left half done harms nobody.
fn counts(shared: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where contents without a buffer are looked for: in the packet, in the stream, in both. A packet
/// that is the whole stream is looked at once.
fn payloads<'a>(facts: &Facts<'a>, in_stream: Option<bool>) -> impl Iterator<Item = &'a [u8]> {
    let is_same = facts.payload.as_ptr() == facts.stream.as_ptr()
        && facts.payload.len() == facts.stream.len();
    let packet = in_stream != Some(true) && !(in_stream.is_none() && is_same);
    let packet = Some(facts.payload).filter(|text| packet && !text.is_empty());
    let stream = Some(facts.stream).filter(|text| in_stream != Some(false) && !text.is_empty());
    packet.into_iter().chain(stream)
}

/// Whether a rule matches.
fn matches(
    signatures: &Signatures,
    entry: &Entry,
    facts: &Facts<'_>,
    left: &mut Left,
) -> Result<bool, Spent> {
    const HEADER: usize = 16;
    left.work.spend(HEADER)?;
    let rule = &entry.rule;
    let is_for_it = is_for(&rule.header, facts)
        && rule.flow.to_server.is_none_or(|wanted| wanted == facts.to_server)
        && rule.flow.is_established.is_none_or(|wanted| wanted == facts.is_established)
        && rule.flags.is_none_or(|flags| flags.matches(facts.tcp_flags))
        && rule.dsize.is_none_or(|sizes| sizes.matches(facts.payload.len()));
    if !is_for_it {
        return Ok(false);
    }
    left.rules = left.rules.checked_sub(1).ok_or(Spent)?;
    for group in signatures.groups(entry) {
        let is_there = if group.buffer == Buffer::Payload {
            any(signatures, *group, payloads(facts, rule.flow.in_stream), &mut left.work)?
        } else {
            let texts = facts.buffers.iter().filter(|(buffer, _)| *buffer == group.buffer);
            any(signatures, *group, texts.map(|(_, text)| *text), &mut left.work)?
        };
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether one of the texts is what a rule asks of a buffer.
fn any<'a>(
    signatures: &Signatures,
    group: PackedGroup,
    texts: impl Iterator<Item = &'a [u8]>,
    work: &mut Work,
) -> Result<bool, Spent> {
    for text in texts {
        let search = Search { bytes: &signatures.bytes, text };
        if group.size.is_none_or(|sizes| sizes.matches(text.len()))
            && search.all(signatures.contents(group), work)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a packet is one of those that a header describes.
fn is_for(header: &Header, facts: &Facts<'_>) -> bool {
    let speaks = match header.protocol {
        Protocol::Any => true,
        Protocol::Transport(transport) => facts.transport == transport,
        Protocol::Packet | Protocol::Stream => facts.transport == Transport::Tcp,
        Protocol::App(apps) => facts.app.is_some_and(|app| apps.contains(app)),
    };
    let source = (facts.source, facts.source_port);
    let destination = (facts.destination, facts.destination_port);
    speaks
        && (header.is_between(source, destination)
            || (header.is_both_ways && header.is_between(destination, source)))
}

#[cfg(test)]
mod tests;
