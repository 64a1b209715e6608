//! The first bytes of one direction of a TCP connection, put in order.
//!
//! Owns sequence numbers, overlap and gaps. Keeps at most [`Caps::bytes`] bytes, each once, in at
//! most [`Caps::pieces`] pieces behind gaps. Does not own what the bytes mean.

/// How much one stream may keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caps {
    /// Bytes from the first one on; what lies behind them is not kept.
    pub bytes: u32,
    /// Pieces that wait for bytes before them. Pieces that touch are one.
    pub pieces: usize,
}

/// Why a part of a segment was not kept, although it was new.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It lies behind the cap on bytes.
    Beyond,
    /// As many pieces wait as may.
    Pieces,
}

/// What a segment brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Pushed {
    /// Bytes that were not there before.
    pub fresh: u32,
    /// Why new bytes were left out.
    pub fault: Option<Fault>,
    /// Whether the stream now starts earlier than it did.
    pub is_rebased: bool,
}

/// Reassembly of one direction.
#[derive(Debug, Default)]
pub struct Stream {
    /// Sequence number of the first byte, when known.
    base: Option<u32>,
    /// Whether `base` came with a SYN. Else it is that of the earliest segment seen so far.
    is_anchored: bool,
    /// Whether a byte came twice with different values.
    has_conflict: bool,
    kept: Option<Box<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The bytes without a gap before them.
    head: Vec<u8>,
    /// The others: apart, in order, none empty.
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    start: u32,
    data: Vec<u8>,
}

impl Piece {
    const fn end(&self) -> u32 {
        self.start + self.data.len() as u32
    }
}

impl Stream {
    /// Takes the sequence number of a SYN: the byte after it is the first of the stream.
    pub const fn anchor(&mut self, syn_seq: u32) {
        if self.base.is_none() {
            self.base = Some(syn_seq.wrapping_add(1));
            self.is_anchored = true;
        }
    }

    /// Whether the stream began with a SYN that has another sequence number than this one.
    #[must_use]
    pub const fn contradicts(&self, syn_seq: u32) -> bool {
        match self.base {
            Some(base) => !self.is_anchored || base != syn_seq.wrapping_add(1),
            None => false,
        }
    }

    /// Whether the first byte is known to be the first of the connection.
    #[must_use]
    pub const fn is_anchored(&self) -> bool {
        self.is_anchored
    }

    /// Whether a byte came twice with different values; the first was kept.
    #[must_use]
    pub const fn has_conflict(&self) -> bool {
        self.has_conflict
    }

    /// The bytes from the first one to the first gap.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.kept.as_ref().map_or(&[], |kept| &kept.head)
    }

    /// Whether bytes wait for others before them.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.pieces.is_empty())
    }

    /// Whether nothing was kept, so that a segment at `seq` would be the head by itself.
    #[must_use]
    pub fn starts_at(&self, seq: u32) -> bool {
        self.kept.is_none() && self.base.is_none_or(|base| base == seq)
    }

    /// Heap bytes in use.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| {
            size_of::<Kept>()
                + kept.head.capacity()
                + kept.pieces.capacity() * size_of::<Piece>()
                + kept.pieces.iter().map(|piece| piece.data.capacity()).sum::<usize>()
        })
    }

    /// Forgets the bytes.
    pub fn release(&mut self) {
        self.kept = None;
    }

    /// Takes the segment `data` whose first byte has the sequence number `seq`.
    pub fn push(&mut self, seq: u32, data: &[u8], caps: Caps) -> Pushed {
        if data.is_empty() {
            return Pushed::default();
        }
        let base = *self.base.get_or_insert(seq);
        // Sequence numbers are compared modulo 2³² (RFC 9293, section 3.4).
        let mut offset = i64::from(seq.wrapping_sub(base).cast_signed());
        let mut data = data;
        let mut is_rebased = false;
        if offset < 0 {
            let before = offset.unsigned_abs();
            if !self.is_anchored && before < u64::from(caps.bytes) {
                self.rebase(seq, before as u32, caps);
                is_rebased = true;
            } else {
                let Some(rest) = data.get(before as usize..).filter(|rest| !rest.is_empty()) else {
                    return Pushed::default();
                };
                data = rest;
            }
            offset = 0;
        }
        let Ok(offset) = u32::try_from(offset) else { return Pushed::default() };
        if offset >= caps.bytes {
            return Pushed { fault: Some(Fault::Beyond), ..Pushed::default() };
        }
        let room = (caps.bytes - offset) as usize;
        let fault = (data.len() > room).then_some(Fault::Beyond);
        data = &data[..data.len().min(room)];

        let kept = self.kept.get_or_insert_default();
        let mut pushed = kept.insert(offset, data, caps, &mut self.has_conflict);
        kept.settle();
        pushed.fault = pushed.fault.or(fault);
        pushed.is_rebased = is_rebased;
        pushed
    }

    /// Makes `seq` the first byte: `delta` bytes before the one that was.
    fn rebase(&mut self, seq: u32, delta: u32, caps: Caps) {
        self.base = Some(seq);
        let Some(kept) = &mut self.kept else { return };
        let head = core::mem::take(&mut kept.head);
        if !head.is_empty() {
            kept.pieces.insert(0, Piece { start: 0, data: head });
        }
        for piece in &mut kept.pieces {
            piece.start += delta;
            let room = caps.bytes.saturating_sub(piece.start);
            piece.data.truncate(room as usize);
        }
        kept.pieces.retain(|piece| !piece.data.is_empty());
    }
}

impl Kept {
    /// Stores what of `data` is new, in the gaps between what is there.
    fn insert(&mut self, offset: u32, data: &[u8], caps: Caps, conflict: &mut bool) -> Pushed {
        let mut pushed = Pushed::default();
        let mut at = offset;
        let mut rest = data;
        let mut index = 0;
        while !rest.is_empty() {
            let head_end = self.head.len() as u32;
            if at < head_end {
                let len = rest.len().min((head_end - at) as usize);
                let there = &self.head[at as usize..at as usize + len];
                *conflict |= there != &rest[..len];
                (at, rest) = (at + len as u32, &rest[len..]);
                continue;
            }
            let gap = match self.pieces.get(index) {
                Some(piece) if piece.end() <= at => {
                    index += 1;
                    continue;
                }
                Some(piece) if piece.start <= at => {
                    let from = (at - piece.start) as usize;
                    let len = rest.len().min(piece.data.len() - from);
                    *conflict |= piece.data[from..from + len] != rest[..len];
                    (at, rest) = (at + len as u32, &rest[len..]);
                    continue;
                }
                Some(piece) => rest.len().min((piece.start - at) as usize),
                None => rest.len(),
            };
            let (part, tail) = rest.split_at(gap);
            if self.store(index, at, part, caps) {
                pushed.fresh += gap as u32;
            } else {
                pushed.fault = Some(Fault::Pieces);
            }
            (at, rest) = (at + gap as u32, tail);
        }
        pushed
    }

    /// Stores `part`, which overlaps nothing, before the piece at `index`.
    fn store(&mut self, index: usize, at: u32, part: &[u8], caps: Caps) -> bool {
        if at == self.head.len() as u32 {
            self.head.extend_from_slice(part);
            return true;
        }
        if let Some(before) = index.checked_sub(1).and_then(|index| self.pieces.get_mut(index))
            && before.end() == at
        {
            before.data.extend_from_slice(part);
            return true;
        }
        let end = at + part.len() as u32;
        if let Some(after) = self.pieces.get_mut(index)
            && after.start == end
        {
            after.start = at;
            after.data.splice(..0, part.iter().copied());
            return true;
        }
        if self.pieces.len() >= caps.pieces {
            return false;
        }
        self.pieces.insert(index, Piece { start: at, data: part.to_vec() });
        true
    }

    /// Joins what touches.
    fn settle(&mut self) {
        let mut index = 0;
        while index < self.pieces.len() {
            let start = self.pieces[index].start;
            if start == self.head.len() as u32 {
                let piece = self.pieces.remove(index);
                self.head.extend_from_slice(&piece.data);
            } else if index > 0 && self.pieces[index - 1].end() == start {
                let piece = self.pieces.remove(index);
                self.pieces[index - 1].data.extend_from_slice(&piece.data);
            } else {
                index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
