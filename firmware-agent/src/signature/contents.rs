//! Whether the contents of a rule lie in a buffer as it asks.
//!
//! The meaning is declarative: contents match when there is a place for each such that all of their
//! modifiers hold. A content that is relative refers to the place of the last content before it that is
//! not negated, or to the start of the buffer. A negated content holds when its window has no match.

use super::content::Content;

/// No end of a window.
const OPEN: i32 = i32::MAX;

const NEGATED: u8 = 1;
const NOCASE: u8 = 2;
const AT_END: u8 = 4;
const RELATIVE: u8 = 8;

/// A content as it is kept: its bytes are elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    at: u32,
    len: u16,
    flags: u8,
    /// Where its window starts, from the start of the buffer or the end of the content before.
    from: i32,
    /// Bytes of the window.
    span: i32,
}

impl Packed {
    /// Packs a content and appends its bytes.
    pub(super) fn new(content: &Content, bytes: &mut Vec<u8>) -> Self {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let is_relative = content.is_relative();
        let (from, span) = if is_relative {
            (content.distance, content.within)
        } else {
            (content.offset, content.depth)
        };
        let at = bytes.len() as u32;
        bytes.extend_from_slice(&content.bytes);
        Self {
            at,
            len: content.bytes.len() as u16,
            flags: flag(content.is_negated, NEGATED)
                | flag(content.is_nocase, NOCASE)
                | flag(content.is_at_end, AT_END)
                | flag(is_relative, RELATIVE),
            from: from.unwrap_or(0),
            span: span.unwrap_or(OPEN),
        }
    }

    pub(super) const fn is(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Its bytes.
    pub(super) fn bytes(self, bytes: &[u8]) -> &[u8] {
        let from = self.at as usize;
        bytes.get(from..from + usize::from(self.len)).unwrap_or_default()
    }

    /// Where it may start first and where it must end, given where the one before it ended.
    fn window(self, end: usize, text: usize) -> (usize, usize) {
        let base = if self.is(RELATIVE) { i64::try_from(end).unwrap_or(i64::MAX) } else { 0 };
        let from = base.saturating_add(i64::from(self.from));
        let span = if self.span == OPEN { i64::MAX } else { i64::from(self.span) };
        let inside = |at: i64| usize::try_from(at.max(0)).unwrap_or(usize::MAX).min(text);
        let (from, to) = (inside(from), inside(from.saturating_add(span)));
        if !self.is(AT_END) {
            return (from, to);
        }
        let last = text.saturating_sub(usize::from(self.len)).max(from);
        if to < text { (to, to) } else { (last, to) }
    }
}

/// Bytes that may still be looked at for one packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work(pub(super) u32);

impl Work {
    /// Takes some away; false when nothing was left before.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Spent> {
        if self.0 == 0 {
            return Err(Spent);
        }
        self.0 = self.0.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        Ok(())
    }
}

/// The work that a packet may cause is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Spent;

/// What the contents of one rule in one buffer are compared with.
pub(super) struct Search<'a> {
    /// Where bytes of contents are.
    pub(super) bytes: &'a [u8],
    /// The buffer.
    pub(super) text: &'a [u8],
}

impl Search<'_> {
    /// Whether all contents have their place.
    pub(super) fn all(&self, contents: &[Packed], work: &mut Work) -> Result<bool, Spent> {
        let mut rest = contents;
        while !rest.is_empty() {
            // Up to the next content that refers to none before it, and to which those behind refer.
            let is_head = |content: &Packed| !content.is(RELATIVE) && !content.is(NEGATED);
            let behind = rest.iter().skip(1).position(is_head).map_or(rest.len(), |at| at + 1);
            let (chain, tail) = rest.split_at(behind);
            if !self.chain(chain, 0, work)? {
                return Ok(false);
            }
            rest = tail;
        }
        Ok(true)
    }

    /// Whether contents have places behind each other; the one before them ended at `end`.
    fn chain(&self, chain: &[Packed], end: usize, work: &mut Work) -> Result<bool, Spent> {
        let Some((&content, rest)) = chain.split_first() else { return Ok(true) };
        let (mut from, to) = content.window(end, self.text.len());
        if content.is(NEGATED) {
            return Ok(
                self.find(content, from, to, work)?.is_none() && self.chain(rest, end, work)?
            );
        }
        // The first place leaves the most to what follows, unless that must be near or must not be.
        let is_any_place_as_good = match rest.first() {
            None => true,
            Some(next) => next.span == OPEN && !next.is(NEGATED) && !next.is(AT_END),
        };
        while let Some(at) = self.find(content, from, to, work)? {
            if self.chain(rest, at + usize::from(content.len), work)? {
                return Ok(true);
            }
            if is_any_place_as_good {
                return Ok(false);
            }
            from = at + 1;
        }
        Ok(false)
    }

    /// The first place between two ends.
    fn find(
        &self,
        content: Packed,
        from: usize,
        to: usize,
        work: &mut Work,
    ) -> Result<Option<usize>, Spent> {
        const CALL: usize = 16;
        let bytes = content.bytes(self.bytes);
        let window = self.text.get(from..to).unwrap_or_default();
        let Some((&first, tail)) = bytes.split_first() else { return Ok(None) };
        let Some(last) = window.len().checked_sub(bytes.len()) else {
            work.spend(CALL)?;
            return Ok(None);
        };
        let starts = window.get(..=last).unwrap_or_default();
        let is_nocase = content.is(NOCASE);
        let upper = if is_nocase { first.to_ascii_uppercase() } else { first };
        let mut at = 0;
        while let Some(next) = starts.get(at..) {
            let Some(skip) = next.iter().position(|byte| *byte == first || *byte == upper) else {
                work.spend(CALL + next.len())?;
                return Ok(None);
            };
            at += skip;
            work.spend(CALL + skip + tail.len())?;
            let there = window.get(at + 1..at + bytes.len()).unwrap_or_default();
            if if is_nocase { there.eq_ignore_ascii_case(tail) } else { there == tail } {
                return Ok(Some(from + at));
            }
            at += 1;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
