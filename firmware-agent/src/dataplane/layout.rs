//! Which layout a map has: part of the name of its pin, so that a map whose entries mean something
//! else is never taken up, also where they have the same size.

use sluice_abi::bulk::Header;
use sluice_abi::counter::Tally;
use sluice_abi::flow::{Addr, FlowCount, FlowKey, FlowLimit, FlowState, Recent};
use sluice_abi::layout::{Layout as _, of_map};
use sluice_abi::limits::{Attacked, KnownSet, Offenders, Scan};
use sluice_abi::live::Live;
use sluice_abi::message::{Head, Message};
use sluice_abi::names;
use sluice_abi::profile::Profile;
use sluice_abi::settings::Settings;
use sluice_abi::shield::{AllowEntry, BlockEntry, BucketSet, ListHits};

/// Index of an array.
type Index = u32;

/// The layout of keys and values of a map; `None` of maps that hold no types of the ABI.
#[must_use]
pub const fn layout(name: &str) -> Option<u32> {
    const KNOWN: [(&str, u32); 24] = [
        (names::FLOWS, of_map(FlowKey::HASH, FlowState::HASH)),
        (names::HELD, of_map(FlowKey::HASH, FlowState::HASH)),
        (names::LIMITS, of_map(Index::HASH, FlowLimit::HASH)),
        (names::FLOW_COUNTS, of_map(Index::HASH, FlowCount::HASH)),
        (names::EPOCH, of_map(Index::HASH, u32::HASH)),
        (names::RECENT, of_map(Index::HASH, Recent::HASH)),
        (names::PROFILES, of_map(Index::HASH, Profile::HASH)),
        (names::TOTALS, of_map(Index::HASH, Tally::HASH)),
        (names::SETTINGS, of_map(Index::HASH, Settings::HASH)),
        (names::BLOCK_HOSTS, of_map(Addr::HASH, BlockEntry::HASH)),
        (names::BLOCK_NETS, of_map(Addr::HASH, BlockEntry::HASH)),
        (names::ALLOW_NETS, of_map(Addr::HASH, AllowEntry::HASH)),
        (names::LIST_HITS, of_map(Index::HASH, ListHits::HASH)),
        (names::BUCKETS, of_map(Index::HASH, BucketSet::HASH)),
        (names::OFFENDERS, of_map(Index::HASH, Offenders::HASH)),
        (names::SCANS, of_map(Index::HASH, Scan::HASH)),
        (names::KNOWN, of_map(Index::HASH, KnownSet::HASH)),
        (names::OWN, of_map(Addr::HASH, u32::HASH)),
        (names::ATTACKED, of_map(Addr::HASH, Attacked::HASH)),
        (names::SPREAD, of_map(Index::HASH, u32::HASH)),
        (names::LIVE, of_map(Index::HASH, Live::HASH)),
        (names::MESSAGES, of_map(Index::HASH, Head::HASH)),
        (names::COPY, of_map(Index::HASH, Message::HASH)),
        (names::BULK, of_map(Index::HASH, Header::HASH)),
    ];
    let mut index = 0;
    while index < KNOWN.len() {
        if is_same(KNOWN[index].0, name) {
            return Some(KNOWN[index].1);
        }
        index += 1;
    }
    None
}

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// Name of a map's pin.
#[must_use]
pub fn pin(name: &str) -> String {
    layout(name).map_or_else(|| name.to_owned(), |layout| format!("{name}-{layout:08x}"))
}

/// Whether `file` is the pin of the map `name` in any layout.
#[must_use]
pub fn is_pin_of(file: &str, name: &str) -> bool {
    file.strip_prefix(name).is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|hash| {
                hash.len() == 8 && hash.bytes().all(|digit| digit.is_ascii_hexdigit())
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_known_by_its_map_in_every_layout() {
        let pin = pin(names::FLOWS);
        assert!(is_pin_of(&pin, names::FLOWS), "{pin}");
        assert!(is_pin_of("FLOWS", names::FLOWS) && is_pin_of("FLOWS-00000000", names::FLOWS));
        for other in ["FLOW_COUNTS-00000000", "FLOWS-0", "FLOWS-0000000g", "FLOWSX", "XFLOWS", ""] {
            assert!(!is_pin_of(other, names::FLOWS), "{other}");
        }
        assert!(!pin.contains('.'), "bpffs refuses dots");
        assert_eq!(super::pin("OTHER"), "OTHER");
        assert_ne!(layout(names::BLOCK_NETS), layout(names::ALLOW_NETS));
    }
}
