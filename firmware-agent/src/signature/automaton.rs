//! Finds which of many patterns occur in a text, in one pass (Aho and Corasick, 1975).
//!
//! Made for tens of thousands of patterns in little memory, so it differs from what libraries do:
//! * Letters have no case here. What is reported is a candidate, to be verified.
//! * Of a pattern only as much is kept as tells it from every other one, and [`KEPT_MIN`] bytes at
//!   least, so long patterns cost little more than short ones.
//! * States are numbered level by level. The children of a state then have consecutive numbers, a
//!   state needs the number of the first one and no list of edges: 9.1 bytes.

/// Bytes of a pattern that are kept although fewer would tell it from the others.
pub(super) const KEPT_MIN: usize = 8;
/// Bytes of a pattern that are looked at.
pub(super) const KEPT_MAX: usize = 64;
/// Up to so many children are looked through one by one.
const FEW: usize = 8;

/// How much of each pattern is kept, and how large that makes the automaton.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// Sorted, each once, in lower case, none empty.
    patterns: &'a [&'a [u8]],
    kept: Vec<u8>,
    states: usize,
}

impl<'a> Plan<'a> {
    /// Looks at patterns that are sorted, in lower case, different and not empty.
    pub(super) fn new(patterns: &'a [&'a [u8]], kept_min: usize) -> Self {
        let mut kept = Vec::with_capacity(patterns.len());
        let mut states = 1;
        let mut before = 0;
        for (at, pattern) in patterns.iter().enumerate() {
            let behind = patterns.get(at + 1).map_or(0, |next| common(pattern, next));
            let different = before.max(behind) + 1;
            let len = pattern.len().min(different.max(kept_min)).min(KEPT_MAX);
            states += len - before;
            kept.push(len as u8);
            before = behind;
        }
        Self { patterns, kept, states }
    }

    /// Bytes that the automaton will use.
    pub(super) const fn memory(&self) -> usize {
        (self.states + 1) * size_of::<Node>()
            + self.states
            + self.states.div_ceil(32) * size_of::<u32>()
            + self.patterns.len() * size_of::<End>()
            + TABLES
    }
}

/// Bytes at the start that two patterns share.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// The first child. The children end where those of the next state start.
    first: u32,
    /// The longest other state whose bytes end those of this one.
    fail: u32,
}

/// A pattern that ends in a state.
#[derive(Clone, Copy, Debug)]
struct End {
    state: u32,
    pattern: u32,
}

/// Bytes of the tables that do not grow.
const TABLES: usize = 256 * size_of::<u32>() + PAIRS;
const PAIRS: usize = (1 << 16) / 8;

/// The automaton.
#[derive(Debug)]
pub(super) struct Automaton {
    /// One more than there are states.
    nodes: Box<[Node]>,
    /// The byte that leads into each state.
    labels: Box<[u8]>,
    /// A bit for each state in which some pattern ends.
    accepting: Box<[u32]>,
    /// Sorted by state.
    ends: Box<[End]>,
    /// Where each byte leads from the root.
    roots: Box<[u32]>,
    /// A bit for each pair of bytes with which a pattern starts.
    pairs: Box<[u32]>,
}

impl Automaton {
    /// Makes what was planned.
    pub(super) fn new(plan: &Plan<'_>) -> Self {
        let mut made = Making {
            plan,
            nodes: Vec::with_capacity(plan.states + 1),
            labels: Vec::with_capacity(plan.states),
            accepting: vec![0; plan.states.div_ceil(32)],
            ends: Vec::with_capacity(plan.patterns.len()),
        };
        made.run();
        let mut roots = vec![0; 256];
        let first = made.nodes.get(1).map_or(1, |node| node.first);
        for state in 1..first {
            if let Some(byte) = made.labels.get(state as usize)
                && let Some(root) = roots.get_mut(usize::from(*byte))
            {
                *root = state;
            }
        }
        Self {
            nodes: made.nodes.into_boxed_slice(),
            labels: made.labels.into_boxed_slice(),
            accepting: made.accepting.into_boxed_slice(),
            ends: made.ends.into_boxed_slice(),
            roots: roots.into_boxed_slice(),
            pairs: pairs(plan),
        }
    }

    /// Bytes in use.
    pub(super) const fn memory(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
            + self.labels.len()
            + (self.accepting.len() + self.roots.len() + self.pairs.len()) * size_of::<u32>()
            + self.ends.len() * size_of::<End>()
    }

    /// Calls `found` with the numbers of patterns of which what is kept occurs in the text. It
    /// answers whether the number is new to it; when it is not, shorter patterns that end at the same
    /// place were reported too and are not again.
    pub(super) fn scan(&self, text: &[u8], mut found: impl FnMut(u32) -> bool) {
        let mut state = 0;
        let mut rest = text;
        while let Some((&byte, tail)) = rest.split_first() {
            if state == 0 {
                let next = tail.first().copied().unwrap_or_default();
                if !self.is_start(byte, next) {
                    rest = tail;
                    continue;
                }
            }
            rest = tail;
            state = self.step(state, byte.to_ascii_lowercase());
            let mut end = state;
            while bit(&self.accepting, end) {
                if let Ok(at) = self.ends.binary_search_by_key(&end, |end| end.state)
                    && let Some(end) = self.ends.get(at)
                    && !found(end.pattern)
                {
                    break;
                }
                end = self.node(end).fail;
            }
        }
    }

    fn is_start(&self, byte: u8, next: u8) -> bool {
        bit(&self.pairs, u32::from(byte) << 8 | u32::from(next))
    }

    fn node(&self, state: u32) -> Node {
        self.nodes.get(state as usize).copied().unwrap_or_default()
    }

    fn step(&self, mut state: u32, byte: u8) -> u32 {
        while state != 0 {
            if let Some(child) = child(&self.nodes, &self.labels, state, byte) {
                return child;
            }
            state = self.node(state).fail;
        }
        self.roots.get(usize::from(byte)).copied().unwrap_or_default()
    }
}

fn bit(words: &[u32], at: u32) -> bool {
    words.get((at / 32) as usize).is_some_and(|word| word >> (at % 32) & 1 == 1)
}

pub(super) fn set_bit(words: &mut [u32], at: u32) -> bool {
    let Some(word) = words.get_mut((at / 32) as usize) else { return false };
    let is_new = *word >> (at % 32) & 1 == 0;
    *word |= 1 << (at % 32);
    is_new
}

fn child(nodes: &[Node], labels: &[u8], state: u32, byte: u8) -> Option<u32> {
    let (from, to) = match nodes.get(state as usize..)? {
        [node, next, ..] => (node.first, next.first),
        _ => return None,
    };
    let labels = labels.get(from as usize..to as usize)?;
    let at = if labels.len() <= FEW {
        labels.iter().position(|label| *label == byte)?
    } else {
        labels.binary_search(&byte).ok()?
    };
    Some(from + at as u32)
}

/// The pairs with which patterns start, in either case. What has one byte starts with any pair.
fn pairs(plan: &Plan<'_>) -> Box<[u32]> {
    let mut pairs = vec![0; PAIRS / size_of::<u32>()];
    let cases = |byte: u8| [byte, byte.to_ascii_uppercase()];
    for (pattern, kept) in plan.patterns.iter().zip(&plan.kept) {
        let kept = pattern.get(..usize::from(*kept)).unwrap_or_default();
        let Some((&first, rest)) = kept.split_first() else { continue };
        for first in cases(first) {
            let row = u32::from(first) << 8;
            match rest.first() {
                Some(&second) => {
                    for second in cases(second) {
                        set_bit(&mut pairs, row | u32::from(second));
                    }
                }
                None => {
                    for second in 0..=u32::from(u8::MAX) {
                        set_bit(&mut pairs, row | second);
                    }
                }
            }
        }
    }
    pairs.into_boxed_slice()
}

/// An automaton that is being made: a level of states at a time, each with the patterns that start
/// with its bytes, which are neighbours because patterns are sorted.
struct Making<'a> {
    plan: &'a Plan<'a>,
    nodes: Vec<Node>,
    labels: Vec<u8>,
    accepting: Vec<u32>,
    ends: Vec<End>,
}

impl Making<'_> {
    fn run(&mut self) {
        let mut level = vec![(0, self.plan.patterns.len())];
        let mut state = 0;
        self.nodes.push(Node::default());
        self.labels.push(0);
        for depth in 0..=KEPT_MAX {
            let mut next = Vec::new();
            for (from, to) in level {
                self.state(state, depth, from, to, &mut next);
                state += 1;
            }
            level = next;
        }
        let end = Node { first: self.labels.len() as u32, fail: 0 };
        self.nodes.push(end);
    }

    /// Makes the children of a state.
    fn state(
        &mut self,
        state: u32,
        depth: usize,
        from: usize,
        to: usize,
        next: &mut Vec<(usize, usize)>,
    ) {
        let first = self.labels.len() as u32;
        let Some(node) = self.nodes.get_mut(state as usize) else { return };
        node.first = first;
        let fail = node.fail;
        let mut from = from;
        if self.plan.kept.get(from).is_some_and(|kept| usize::from(*kept) == depth) && from < to {
            self.ends.push(End { state, pattern: from as u32 });
            from += 1;
            set_bit(&mut self.accepting, state);
        } else if state != 0 && bit(&self.accepting, fail) {
            set_bit(&mut self.accepting, state);
        }
        let plan = self.plan;
        let byte_of =
            |at: usize| plan.patterns.get(at).and_then(|pattern| pattern.get(depth)).copied();
        while from < to
            && let Some(byte) = byte_of(from)
        {
            let same = (from..to).take_while(|at| byte_of(*at) == Some(byte)).count();
            let fail = if state == 0 { 0 } else { self.follow(fail, byte) };
            self.nodes.push(Node { first: 0, fail });
            self.labels.push(byte);
            next.push((from, from + same));
            from += same;
        }
    }

    /// Where a byte leads from a state whose level is complete, or from those it fails to.
    fn follow(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            if let Some(child) = child(&self.nodes, &self.labels, state, byte) {
                return child;
            }
            if state == 0 {
                return 0;
            }
            state = self.nodes.get(state as usize).map_or(0, |node| node.fail);
        }
    }
}

#[cfg(test)]
mod tests;
