//! When the bulk of a flow turns: a download that becomes an upload, or the other way round. Pure.

/// One side sends bulk when it sends this many times as much as the other: acknowledgements and
/// requests are far less, and what is said in both directions at once has no way to turn.
const BULK: u64 = 8;

/// Which way the bulk of a flow goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Turn {
    /// The side that sends it.
    side: Option<usize>,
    /// What each side had sent when that was last known.
    base: [u64; 2],
    has_turned: bool,
}

impl Turn {
    /// Looks at what each side has sent so far. `least` bytes against the bulk are a turn; 0 never is.
    pub(super) const fn look(&mut self, sides: [u64; 2], least: u64) {
        let sent = [sides[0].wrapping_sub(self.base[0]), sides[1].wrapping_sub(self.base[1])];
        let (more, less) = if sent[0] >= sent[1] { (0, 1) } else { (1, 0) };
        if least == 0 || sent[more] < least {
            return;
        }
        self.base = sides;
        if sent[more] / BULK < sent[less] {
            // Both talk: what each sends now is no turn, and does not say where the bulk goes.
            return;
        }
        if let Some(side) = self.side
            && side != more
        {
            self.has_turned = true;
        }
        self.side = Some(more);
    }

    /// Whether it turned since the flow was last looked at.
    pub(super) const fn has_turned(&self) -> bool {
        self.has_turned
    }

    /// The flow was looked at again.
    pub(super) const fn confirm(&mut self) {
        self.has_turned = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn turned(steps: &[[u64; 2]]) -> bool {
        let (mut turn, mut sides) = (Turn::default(), [0; 2]);
        for step in steps {
            sides = [sides[0] + step[0], sides[1] + step[1]];
            turn.look(sides, MIB);
        }
        turn.has_turned()
    }

    #[test]
    fn a_download_that_becomes_an_upload_has_turned() {
        assert!(turned(&[[9_000, 4 * MIB], [2 * MIB, 50_000]]));
        assert!(turned(&[[4 * MIB, 0], [0, MIB]]));
        // In small steps, too.
        assert!(turned(&[[0, MIB], [MIB / 2, 9], [MIB / 2, 9]]));
    }

    #[test]
    fn what_goes_on_is_no_turn() {
        assert!(!turned(&[]));
        assert!(!turned(&[[9_000, 4 * MIB], [9_000, 4 * MIB]]), "a download");
        assert!(!turned(&[[0, 4 * MIB], [MIB - 1, 0]]), "too little");
        // Acknowledgements of a long download add up to more than the least of a turn.
        assert!(!turned(&[[MIB / 20, MIB]; 60]));
        assert!(!turned(&[[0, 4 * MIB], [2 * MIB, MIB], [MIB, 2 * MIB]]), "both talk");
    }

    #[test]
    fn it_is_told_once_for_each_turn() {
        let mut turn = Turn::default();
        turn.look([0, MIB], MIB);
        turn.look([MIB, MIB], MIB);
        assert!(turn.has_turned());
        turn.confirm();
        turn.look([9 * MIB, MIB], MIB);
        assert!(!turn.has_turned());
        turn.look([9 * MIB, 2 * MIB], MIB);
        assert!(turn.has_turned());
    }

    #[test]
    fn without_a_least_nothing_turns() {
        let mut turn = Turn::default();
        turn.look([0, MIB], 0);
        turn.look([MIB, MIB], 0);
        assert!(!turn.has_turned());
    }
}
