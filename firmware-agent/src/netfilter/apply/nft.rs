//! The product's own way: one table, one transaction.

use super::command::Tool;
use super::{ApplyError, Backend, Count, Kind, add};
use crate::config::Mac;
use crate::netfilter::rules::{Counted, GREEDY, Replace, Ruleset, TABLE};

pub(in crate::netfilter) const NFT: Tool = Tool { program: "nft", package: "nftables" };

/// `nft -f -`.
#[derive(Debug, Default)]
pub struct Nft {
    /// How the kernel shows the rules that were applied last.
    listing: Option<String>,
    /// Why they do not copy DNS messages.
    mute: Option<String>,
}

impl Nft {
    /// Nothing applied yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { listing: None, mute: None }
    }

    /// Asks the kernel whether it takes the rules that matter, and leaves nothing behind: the
    /// transaction is checked and not committed. The chain has no hook, because taking a hook away
    /// makes the kernel drop what waits in queues.
    pub(super) fn probe() -> Result<(), ApplyError> {
        let text = format!(
            "add table inet {TABLE}_probe\n\
             add chain inet {TABLE}_probe probe\n\
             add rule inet {TABLE}_probe probe ct mark & 3 == 1 ct mark set ct mark & 0xfc | 2\n\
             add rule inet {TABLE}_probe probe iifname {{ lo, nil }} counter queue num 0 bypass\n"
        );
        NFT.run("queue packets", &["-c", "-f", "-"], &text).map(drop)
    }

    /// The table as the kernel shows it, without the elements of its sets; `None` when there is none.
    fn list(flags: &[&str]) -> Result<Option<String>, ApplyError> {
        let all = [flags, &["-t", "list", "table", "inet", TABLE]].concat();
        Self::ask("list the table", &all)
    }

    /// What there is; `None` when there is none.
    fn ask(what: &'static str, args: &[&str]) -> Result<Option<String>, ApplyError> {
        match NFT.run(what, args, "") {
            Ok(text) => Ok(Some(text)),
            Err(ApplyError::Refused { output, .. }) if output.contains("No such file") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Backend for Nft {
    fn kind(&self) -> Kind {
        Kind::Nft
    }

    fn apply(&mut self, rules: &Ruleset) -> Result<(), ApplyError> {
        self.listing = None;
        self.mute = rules.dns_group().is_none().then(|| "no copies are wanted".to_owned());
        if let Err(error) = put(rules) {
            // The kernel may have everything but the module that copies packets.
            if rules.dns_group().is_none() || put(&rules.without_dns()).is_err() {
                return Err(error);
            }
            // It says the same of each of the rules.
            let error = error.to_string();
            let first = error.split(" / ").next().unwrap_or_default();
            self.mute = Some(format!("{first} (without logs: install kmod-nfnetlink-log)"));
        }
        // Without the state of counters.
        self.listing = Self::list(&["-s"])?;
        Ok(())
    }

    fn remove(&mut self) -> Result<(), ApplyError> {
        self.listing = None;
        let text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
        NFT.run("remove the rules", &["-f", "-"], &text).map(drop)
    }

    fn is_applied(&self) -> Result<bool, ApplyError> {
        let Some(applied) = &self.listing else { return Ok(false) };
        Ok(Self::list(&["-s"])?.as_ref() == Some(applied))
    }

    fn copies_dns(&self) -> Result<(), String> {
        let reason = match (&self.mute, &self.listing) {
            (Some(reason), _) => reason.clone(),
            (None, None) => "the rules are not in force".to_owned(),
            (None, Some(_)) => return Ok(()),
        };
        Err(reason)
    }

    fn counters(&self) -> Result<Vec<Count>, ApplyError> {
        Ok(Self::list(&[])?.as_deref().map(counts).unwrap_or_default())
    }

    fn greedy(&self) -> Result<Vec<Mac>, ApplyError> {
        let set = Self::ask("list a set", &["list", "set", "inet", TABLE, GREEDY])?;
        Ok(set.as_deref().map(macs).unwrap_or_default())
    }
}

/// Puts rules in the place of those that are there.
fn put(rules: &Ruleset) -> Result<(), ApplyError> {
    let run = |replace| NFT.run("apply the rules", &["-f", "-"], &rules.nft(replace)).map(drop);
    // A table of the same name whose chains have another shape, as a later version may have left it,
    // is refused. When that was not the reason the second answer is as good as the first.
    match run(Replace::Flush) {
        Err(ApplyError::Refused { .. }) => run(Replace::Delete),
        done => done,
    }
}

/// The hardware addresses in a listing of a set.
fn macs(listing: &str) -> Vec<Mac> {
    let words = listing.split(|c: char| c.is_whitespace() || "{},".contains(c));
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Puts a rule first that lets pass what would be queued; it goes when the rules are applied anew.
pub(super) fn stand_aside() -> Result<(), ApplyError> {
    let text = format!("insert rule inet {TABLE} inspect goto unattended\n");
    NFT.run("let packets pass", &["-f", "-"], &text).map(drop)
}

/// The counters in a listing, by the comments of their rules.
fn counts(listing: &str) -> Vec<Count> {
    let mut counts = Vec::new();
    for line in listing.lines() {
        if let Some(count) = count(line) {
            add(&mut counts, count);
        }
    }
    counts
}

fn count(line: &str) -> Option<Count> {
    let (_, comment) = line.split_once(" comment \"")?;
    let counted = Counted::from_name(comment.split('"').next()?)?;
    let (_, figures) = line.split_once("counter packets ")?;
    let mut words = figures.split_whitespace();
    let packets = words.next()?.parse().ok()?;
    let bytes = words.nth(1)?.parse().ok()?;
    Some(Count { counted, packets, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_from_the_elements_of_their_set() {
        let listing = "table inet sluice {\n\tset greedy {\n\t\ttype ether_addr\n\t\tsize 64\n\
                       \t\tflags dynamic,timeout\n\t\ttimeout 10m\n\
                       \t\telements = { 02:00:00:00:00:01 expires 10m,\n\
                       \t\t\t     02:00:00:00:00:0a timeout 5s expires 5s }\n\t}\n}\n";
        let last = |byte| Mac([2, 0, 0, 0, 0, byte]);
        assert_eq!(macs(listing), [last(1), last(10)]);
        assert_eq!(macs("table inet sluice {\n\tset greedy {\n\t}\n}\n"), []);
    }

    #[test]
    fn counters_are_read_by_their_comments_and_added_up() {
        let listing = r#"table inet sluice {
	chain opening {
		ct mark & 0x07000000 != 0x00000000 ct mark set ct mark & 0xf8ffffff
		counter packets 3 bytes 180 queue flags bypass to 5-8 comment "queued"
	}
	chain inspect {
		ct mark & 0x07000000 == 0x02000000 counter packets 7 bytes 700 drop comment "dropped_blocked"
		counter packets 10 bytes 1000 queue flags bypass to 5-8 comment "queued"
		counter packets 1 bytes 1 accept comment "somebody else's"
		counter packets x bytes 1 accept comment "passed_trusted"
	}
}"#;
        let count = |counted, packets, bytes| Count { counted, packets, bytes };
        assert_eq!(
            counts(listing),
            [count(Counted::Queued, 13, 1180), count(Counted::DroppedBlocked, 7, 700)]
        );
    }
}
