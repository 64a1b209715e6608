//! From rules to what packets are compared with.

use std::fmt;

use super::automaton::{Automaton, KEPT_MAX, KEPT_MIN, Plan};
use super::condition::Sizes;
use super::contents::Packed;
use super::options::Parsed;
use super::rule::{Buffer, Rule};

/// What a rule asks of one buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedGroup {
    pub(super) buffer: Buffer,
    pub(super) size: Option<Sizes>,
    first: u32,
    count: u8,
}

/// A rule with its places in the common tables.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) rule: Rule,
    first: u32,
    count: u8,
    /// Where its message is, and how long.
    msg: (u32, u8),
    /// What is looked for first: the content's number.
    fast: Option<(Buffer, u32)>,
}

/// Patterns of one buffer, and whose they are.
#[derive(Debug)]
pub(super) struct Prefilter {
    automaton: Automaton,
    /// Where the rules of each pattern start; one more than there are patterns.
    starts: Box<[u32]>,
    rules: Box<[u32]>,
}

impl Prefilter {
    /// Calls `candidate` with rules whose pattern may be in the text. `seen` has a bit for each
    /// pattern and is cleared here.
    pub(super) fn scan(&self, text: &[u8], seen: &mut [u32], mut candidate: impl FnMut(u32)) {
        let mut is_first = true;
        self.automaton.scan(text, |pattern| {
            if std::mem::take(&mut is_first) {
                seen.fill(0);
            }
            let is_new = super::automaton::set_bit(seen, pattern);
            if is_new && let Some([from, to, ..]) = self.starts.get(pattern as usize..) {
                let rules = self.rules.get(*from as usize..*to as usize).unwrap_or_default();
                for rule in rules {
                    candidate(*rule);
                }
            }
            is_new
        });
    }

    const fn memory(&self) -> usize {
        self.automaton.memory() + (self.starts.len() + self.rules.len()) * size_of::<u32>()
    }
}

/// Rules that are in force.
#[derive(Debug)]
pub struct Signatures {
    pub(super) entries: Box<[Entry]>,
    groups: Box<[PackedGroup]>,
    contents: Box<[Packed]>,
    pub(super) bytes: Box<[u8]>,
    pub(super) prefilters: [Option<Prefilter>; Buffer::COUNT],
    /// Rules that are tried without a pattern, whenever there is this buffer.
    pub(super) unfiltered: [Box<[u32]>; Buffer::COUNT],
    /// Rules that ask nothing of any buffer.
    pub(super) always: Box<[u32]>,
    files: Box<[String]>,
    lists: usize,
}

impl Signatures {
    /// How many rules there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The file of a rule or a match, by its number.
    #[must_use]
    pub fn file(&self, number: u16) -> Option<&str> {
        self.files.get(usize::from(number)).map(String::as_str)
    }

    /// What the rule of a match is about. The text comes from a stranger's feed.
    #[must_use]
    pub fn msg(&self, rule: u32) -> &str {
        let Some(entry) = self.entries.get(rule as usize) else { return "" };
        let (start, len) = (entry.msg.0 as usize, usize::from(entry.msg.1));
        self.bytes.get(start..start + len).and_then(|msg| str::from_utf8(msg).ok()).unwrap_or("")
    }

    /// Bytes in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        let prefilters = self.prefilters.iter().flatten().map(Prefilter::memory).sum::<usize>();
        let unfiltered = self.unfiltered.iter().map(|rules| rules.len()).sum::<usize>();
        self.entries.len() * size_of::<Entry>()
            + self.groups.len() * size_of::<PackedGroup>()
            + self.contents.len() * size_of::<Packed>()
            + self.bytes.len()
            + (unfiltered + self.always.len()) * size_of::<u32>()
            + prefilters
            + self.lists
    }

    pub(super) fn groups(&self, entry: &Entry) -> &[PackedGroup] {
        let from = entry.first as usize;
        self.groups.get(from..from + usize::from(entry.count)).unwrap_or_default()
    }

    pub(super) fn contents(&self, group: PackedGroup) -> &[Packed] {
        let from = group.first as usize;
        self.contents.get(from..from + usize::from(group.count)).unwrap_or_default()
    }

    /// Bits that a scan of any buffer needs.
    pub(super) fn patterns_max(&self) -> usize {
        self.prefilters.iter().flatten().map(|one| one.starts.len() - 1).max().unwrap_or(0)
    }
}

/// The rules need more memory than they may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooLarge {
    /// Rules.
    pub rules: usize,
    /// Bytes of the rules and their contents.
    pub rules_bytes: usize,
    /// Bytes of the automata and whose their patterns are.
    pub patterns_bytes: usize,
    /// Bytes of lists of addresses and ports.
    pub lists_bytes: usize,
    /// Bytes that they may have together.
    pub max: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes.div_ceil(1024);
        let Self { rules, rules_bytes, patterns_bytes, lists_bytes, max } = *self;
        write!(
            f,
            "{rules} rules need {} KiB: {} KiB for themselves, {} KiB for patterns, {} KiB for lists \
             of addresses and ports; they may have {} KiB",
            kib(rules_bytes + patterns_bytes + lists_bytes),
            kib(rules_bytes),
            kib(patterns_bytes),
            kib(lists_bytes),
            kib(max),
        )
    }
}

impl std::error::Error for TooLarge {}

/// Collects rules.
#[derive(Debug, Default)]
pub struct Builder {
    entries: Vec<Entry>,
    groups: Vec<PackedGroup>,
    contents: Vec<Packed>,
    bytes: Vec<u8>,
}

impl Builder {
    /// Takes a rule.
    pub fn push(&mut self, parsed: Parsed) {
        let first = self.groups.len() as u32;
        let mut fast: Option<(bool, usize, bool, Buffer, u32)> = None;
        for group in &parsed.groups {
            let packed = PackedGroup {
                buffer: group.buffer,
                size: group.size,
                first: self.contents.len() as u32,
                count: group.contents.len() as u8,
            };
            for content in &group.contents {
                let number = self.contents.len() as u32;
                let is_sticky = group.buffer != Buffer::Payload;
                let len = content.bytes.len();
                let this = (content.is_fast, len, is_sticky, group.buffer, number);
                let is_better =
                    fast.is_none_or(|best| (best.0, best.1, best.2) < (this.0, this.1, this.2));
                if !content.is_negated && is_better {
                    fast = Some(this);
                }
                self.contents.push(Packed::new(content, &mut self.bytes));
            }
            self.groups.push(packed);
        }
        let msg = (self.bytes.len() as u32, parsed.msg.len() as u8);
        self.bytes.extend_from_slice(parsed.msg.as_bytes());
        self.entries.push(Entry {
            rule: parsed.rule,
            msg,
            first,
            count: parsed.groups.len() as u8,
            fast: fast.map(|(_, _, _, buffer, number)| (buffer, number)),
        });
    }

    /// Makes the rules ready, if they need no more than `max` bytes. `files` are the names that rules
    /// refer to by number, `lists` the bytes of the lists they share.
    pub fn finish(
        mut self,
        files: &[String],
        lists: usize,
        max: usize,
    ) -> Result<Signatures, TooLarge> {
        self.entries.sort_by_key(|entry| (entry.rule.action, entry.rule.file, entry.rule.line));
        let rules_bytes = self.entries.len() * size_of::<Entry>()
            + self.groups.len() * size_of::<PackedGroup>()
            + self.contents.len() * size_of::<Packed>()
            + self.bytes.len();
        let mut size = TooLarge {
            rules: self.entries.len(),
            rules_bytes,
            patterns_bytes: 0,
            lists_bytes: lists,
            max,
        };
        let mut folded: [Vec<(Vec<u8>, u32)>; Buffer::COUNT] = Default::default();
        let mut unfiltered: [Vec<u32>; Buffer::COUNT] = Default::default();
        let mut always = Vec::new();
        for (rule, entry) in (0..).zip(&self.entries) {
            let group = self.groups.get(entry.first as usize).filter(|_| entry.count > 0);
            match (entry.fast, group) {
                (Some((buffer, content)), _) => {
                    let content = self.contents.get(content as usize);
                    let bytes = content.map_or(&[][..], |content| content.bytes(&self.bytes));
                    let bytes = bytes.get(..KEPT_MAX).unwrap_or(bytes).to_ascii_lowercase();
                    if let Some(list) = folded.get_mut(buffer as usize) {
                        list.push((bytes, rule));
                    }
                }
                (None, Some(group)) => {
                    if let Some(list) = unfiltered.get_mut(group.buffer as usize) {
                        list.push(rule);
                    }
                    size.patterns_bytes += size_of::<u32>();
                }
                (None, None) => {
                    always.push(rule);
                    size.patterns_bytes += size_of::<u32>();
                }
            }
        }
        // Everything is added up before anything large is made.
        let patterns = folded.map(|mut list| {
            list.sort_unstable();
            list
        });
        let distinct = patterns.each_ref().map(|list| {
            let mut bytes: Vec<&[u8]> = list.iter().map(|(bytes, _)| bytes.as_slice()).collect();
            bytes.dedup();
            bytes
        });
        let plans = distinct.each_ref().map(|patterns| Plan::new(patterns, KEPT_MIN));
        for ((list, distinct), plan) in patterns.iter().zip(&distinct).zip(&plans) {
            if !list.is_empty() {
                size.patterns_bytes +=
                    plan.memory() + (list.len() + distinct.len() + 1) * size_of::<u32>();
            }
        }
        if size.rules_bytes + size.patterns_bytes + size.lists_bytes > max {
            return Err(size);
        }
        let mut prefilters: [Option<Prefilter>; Buffer::COUNT] = Default::default();
        for ((prefilter, list), plan) in prefilters.iter_mut().zip(&patterns).zip(&plans) {
            if !list.is_empty() {
                *prefilter = Some(prefilter_of(list, plan));
            }
        }
        Ok(Signatures {
            entries: self.entries.into_boxed_slice(),
            groups: self.groups.into_boxed_slice(),
            contents: self.contents.into_boxed_slice(),
            bytes: self.bytes.into_boxed_slice(),
            prefilters,
            unfiltered: unfiltered.map(Vec::into_boxed_slice),
            always: always.into_boxed_slice(),
            files: files.into(),
            lists,
        })
    }
}

/// The automaton of sorted patterns, and whose each is.
fn prefilter_of(list: &[(Vec<u8>, u32)], plan: &Plan<'_>) -> Prefilter {
    let mut starts = Vec::new();
    let mut before: Option<&[u8]> = None;
    for (at, (bytes, _)) in (0..).zip(list) {
        if before.replace(bytes) != Some(bytes) {
            starts.push(at);
        }
    }
    starts.push(list.len() as u32);
    Prefilter {
        automaton: Automaton::new(plan),
        starts: starts.into_boxed_slice(),
        rules: list.iter().map(|(_, rule)| *rule).collect(),
    }
}
