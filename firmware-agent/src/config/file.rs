//! Files of lists.
//!
//! Reads a file line by line in bounded memory. Lines that are no entry, or that no blocklist may
//! hold, are left out and counted by reason; they do not cost the rest of the file. A blocklist's
//! entries are not kept: its file is read again when they are needed.

use std::borrow::Cow;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::net::Net;
use super::remark::{Remark, shown};

/// Longest line that can hold an entry and a comment.
const LINE_MAX: usize = 320;
/// Largest file that is read to its end: two million entries with a comment each.
const SIZE_MAX: u64 = 64 << 20;
/// Reasons for leaving lines out that are told apart.
const REASONS_MAX: usize = 6;

/// A file of a blocklist, as it was when the configuration was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListFile {
    /// The file.
    pub path: PathBuf,
    /// Entries by kind.
    pub counts: Counts,
    /// Tells its bytes from others, not from those of somebody who tries.
    hash: u64,
}

/// Entries of a list by what they cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// IPv4 addresses and prefixes.
    pub v4: u32,
    /// IPv6 prefixes up to /64.
    pub v6: u32,
    /// IPv6 addresses.
    pub hosts: u32,
    /// Other IPv6 prefixes.
    pub nets: u32,
}

impl Counts {
    /// Counts one more.
    pub const fn add(&mut self, net: &Net) {
        let count = if net.is_v4() {
            &mut self.v4
        } else if net.prefix() <= 64 {
            &mut self.v6
        } else if net.is_host() {
            &mut self.hosts
        } else {
            &mut self.nets
        };
        *count = count.saturating_add(1);
    }

    /// Adds those of another list or file.
    pub const fn join(&mut self, other: &Self) {
        self.v4 = self.v4.saturating_add(other.v4);
        self.v6 = self.v6.saturating_add(other.v6);
        self.hosts = self.hosts.saturating_add(other.hosts);
        self.nets = self.nets.saturating_add(other.nets);
    }

    /// All of them.
    #[must_use]
    pub const fn sum(&self) -> u32 {
        self.v4.saturating_add(self.v6).saturating_add(self.hosts).saturating_add(self.nets)
    }
}

impl ListFile {
    /// Reads the file again and calls `each` with its entries and their lines. An error when it is
    /// not the file any more that the configuration was read with.
    pub fn entries(&self, mut each: impl FnMut(Net, u32)) -> io::Result<()> {
        let all = |net, line| {
            each(net, line);
            true
        };
        unchanged(nets(&self.path, true, self.counts.sum() as usize, all), self.hash)
    }

    /// The first entry of the file, as it is now, that `wanted` accepts, and its line.
    pub fn find(&self, wanted: impl Fn(&Net) -> bool) -> Option<(Net, u32)> {
        let mut found = None;
        let look = |net, line| {
            if wanted(&net) {
                found = Some((net, line));
            }
            found.is_none()
        };
        let _ = nets(&self.path, true, usize::MAX, look);
        found
    }

    pub(super) fn new(path: &Path, counts: Counts, read: &Read) -> Self {
        Self { path: path.to_owned(), counts, hash: read.hash }
    }
}

/// What a file held, beside its entries.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Lines that were left out: the first few in words, and a sum.
    pub(super) remarks: Vec<Remark>,
    pub(super) hash: u64,
}

/// Whether a file that was read again is the one that had this hash.
pub(super) fn unchanged(read: Result<Read, FileError>, hash: u64) -> io::Result<()> {
    match read {
        Ok(read) if read.hash == hash => Ok(()),
        Err(FileError::Io(error)) => Err(error),
        _ => Err(io::Error::other("has changed since the configuration was read")),
    }
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("is not a regular file")]
    Kind,
    #[error("is larger than {} MiB", SIZE_MAX >> 20)]
    Size,
    #[error("has more than {0} entries, the most that max_entries allows")]
    Entries(usize),
    #[error("has no line that is an {0} ({1} lines are something else)")]
    NoEntry(&'static str, usize),
}

/// Reads a file of at most `most` addresses and prefixes and calls `each` with them and their lines,
/// until it says that it has enough; for a blocklist, leaves out what must not be blocked.
pub(super) fn nets(
    path: &Path,
    is_blocklist: bool,
    most: usize,
    mut each: impl FnMut(Net, u32) -> bool,
) -> Result<Read, FileError> {
    let each = |text: &str, line| Ok(each(entry(text, is_blocklist)?, line));
    read(path, "address or prefix", most, each)
}

/// Reads a file of at most `most` entries, each a `what`, and calls `each` with the texts of its
/// lines, without comments, until it says that it has enough. Its error is why a line is no entry.
pub(super) fn read(
    path: &Path,
    what: &'static str,
    most: usize,
    each: impl FnMut(&str, u32) -> Result<bool, Cow<'static, str>>,
) -> Result<Read, FileError> {
    // Opening a pipe would wait for its writer.
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(FileError::Kind);
    }
    if meta.len() > SIZE_MAX {
        return Err(FileError::Size);
    }
    let file = File::open(path)?;
    let name: Rc<str> = path.to_string_lossy().into();
    // The file may grow while it is read.
    read_lines(BufReader::new(file.take(SIZE_MAX)), &name, what, most, each)
}

fn read_lines(
    mut file: impl BufRead,
    name: &Rc<str>,
    what: &'static str,
    most: usize,
    mut each: impl FnMut(&str, u32) -> Result<bool, Cow<'static, str>>,
) -> Result<Read, FileError> {
    let mut left_out = LeftOut::default();
    let mut hasher = DefaultHasher::new();
    let (mut count, mut number) = (0, 0);
    let mut line = Vec::with_capacity(LINE_MAX);
    loop {
        line.clear();
        if file.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        hasher.write(&line);
        let whole = line.len() < LINE_MAX || line.ends_with(b"\n");
        if !whole {
            // What is skipped is no part of an entry.
            file.skip_until(b'\n')?;
        }
        let comment = line.iter().position(|&b| b == b'#');
        let text = line.get(..comment.unwrap_or(line.len())).unwrap_or_default().trim_ascii();
        if text.is_empty() {
            continue; // a long comment is a comment
        }
        let read = match str::from_utf8(text) {
            _ if !whole && comment.is_none() => Err("is too long".into()),
            Ok(text) => each(text, number),
            Err(_) => Err("is not UTF-8".into()),
        };
        match read {
            Ok(_) if count == most => return Err(FileError::Entries(most)),
            Ok(more) => {
                count += 1;
                if !more {
                    break;
                }
            }
            Err(why) => left_out.add(why, number, text),
        }
    }
    if count == 0 && left_out.lines > 0 {
        return Err(FileError::NoEntry(what, left_out.lines));
    }
    let mut remarks = left_out.remarks(name);
    if count == 0 {
        remarks.push(remark(name, 0, "has no entries".to_owned()));
    }
    Ok(Read { remarks, hash: hasher.finish() })
}

/// Lines that are no entries.
#[derive(Default)]
struct LeftOut {
    lines: usize,
    reasons: Vec<Reason>,
}

/// Why lines are left out, and the first of them.
struct Reason {
    why: Cow<'static, str>,
    line: u32,
    text: String,
    lines: usize,
}

impl LeftOut {
    fn add(&mut self, why: Cow<'static, str>, line: u32, text: &[u8]) {
        self.lines += 1;
        if let Some(known) = self.reasons.iter_mut().find(|reason| reason.why == why) {
            known.lines += 1;
        } else if self.reasons.len() < REASONS_MAX {
            let text = shown(&String::from_utf8_lossy(text));
            self.reasons.push(Reason { why, line, text, lines: 1 });
        }
    }

    fn remarks(self, file: &Rc<str>) -> Vec<Remark> {
        let told: usize = self.reasons.iter().map(|reason| reason.lines).sum();
        let mut remarks: Vec<Remark> = self
            .reasons
            .into_iter()
            .map(|Reason { why, line, text, lines }| {
                let reason = match lines - 1 {
                    0 => format!("{text} {why}; the line is left out"),
                    more => format!("{text} {why}; the line is left out, and {more} more like it"),
                };
                remark(file, line, reason)
            })
            .collect();
        if self.lines > told {
            let more = self.lines - told;
            let reason = format!("{more} more lines are left out for other reasons");
            remarks.push(remark(file, 0, reason));
        }
        remarks
    }
}

fn entry(text: &str, is_blocklist: bool) -> Result<Net, Cow<'static, str>> {
    let net: Net = text.parse().map_err(|err: super::net::NetError| err.to_string())?;
    match net.lock_out() {
        Some(why) if is_blocklist => Err(why.into()),
        _ => Ok(net),
    }
}

fn remark(file: &Rc<str>, line: u32, reason: String) -> Remark {
    Remark { file: Rc::clone(file), line, path: String::new(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entries {
        nets: Vec<Net>,
        remarks: Vec<Remark>,
    }

    fn lines(text: impl AsRef<[u8]>, is_blocklist: bool) -> Result<Entries, String> {
        let mut nets = Vec::new();
        let all = |text: &str, _| {
            nets.push(entry(text, is_blocklist)?);
            Ok(true)
        };
        let read = read_lines(text.as_ref(), &"f".into(), "address or prefix", 4, all);
        let remarks = read.map_err(|err| err.to_string())?.remarks;
        Ok(Entries { nets, remarks })
    }

    fn shown_entries(entries: &Entries) -> Vec<String> {
        entries.nets.iter().map(ToString::to_string).collect()
    }

    fn shown_remarks(entries: &Entries) -> Vec<String> {
        entries.remarks.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn entries_are_read_with_comments_and_other_line_ends() {
        let text =
            "# head\r\n192.0.2.1\r\n\n  198.51.100.0/24 # why\n2001:db8::/32#x\n\t\n203.0.113.9";
        let entries = lines(text, true).unwrap();
        assert_eq!(
            shown_entries(&entries),
            ["192.0.2.1", "198.51.100.0/24", "2001:db8::/32", "203.0.113.9"]
        );
        assert_eq!(shown_remarks(&entries), [""; 0]);
    }

    #[test]
    fn bad_lines_are_left_out_and_counted_by_reason_with_the_first_one_shown() {
        let text = "192.0.2.1\nexample.com\n10.0.0.0/40\n\x1b[2J\nbad\nbad\n198.51.100.1\n";
        let entries = lines(text, true).unwrap();
        assert_eq!(shown_entries(&entries), ["192.0.2.1", "198.51.100.1"]);
        assert_eq!(
            shown_remarks(&entries),
            [
                "f:2: 'example.com' is not an IPv4 or IPv6 address or prefix; the line is left out, and \
                 3 more like it",
                "f:3: '10.0.0.0/40' has a prefix length that is not 0 to 32 (IPv4) or 0 to 128 \
                 (IPv6); the line is left out",
            ]
        );
        // Reasons that somebody makes up are no more than these.
        let mut left_out = LeftOut::default();
        (0..10).for_each(|n| left_out.add(format!("is {n}").into(), n, b"x"));
        let remarks = left_out.remarks(&"f".into());
        assert_eq!(remarks.len(), REASONS_MAX + 1);
        assert_eq!(remarks[6].to_string(), "f: 4 more lines are left out for other reasons");
    }

    #[test]
    fn a_blocklist_file_cannot_lock_out_and_an_allowlist_may_hold_anything() {
        let text = "127.0.0.1\n0.0.0.0/0\n192.0.2.1\n";
        let blocked = lines(text, true).unwrap();
        assert_eq!(shown_entries(&blocked), ["192.0.2.1"]);
        assert_eq!(blocked.remarks.len(), 2);
        assert!(blocked.remarks[0].reason.contains("loopback"));
        let allowed = lines(text, false).unwrap();
        assert_eq!((allowed.nets.len(), allowed.remarks.len()), (3, 0));
    }

    #[test]
    fn long_lines_cost_bounded_memory_and_one_remark() {
        let long = "1".repeat(100_000);
        let comment = format!("192.0.2.2 # {long}");
        let entries = lines(format!("{long}\n{comment}\n#{long}\n192.0.2.1"), true).unwrap();
        assert_eq!(shown_entries(&entries), ["192.0.2.2", "192.0.2.1"]);
        assert_eq!(entries.remarks.len(), 1);
        assert!(entries.remarks[0].reason.contains("is too long"));
    }

    #[test]
    fn too_many_entries_and_none_at_all_are_refused() {
        let four = "192.0.2.1\n192.0.2.2\n192.0.2.3\n192.0.2.4\n";
        assert_eq!(lines(four, true).unwrap().nets.len(), 4);
        let five = format!("{four}192.0.2.5\n");
        assert!(lines(five, true).err().unwrap().contains("more than 4 entries"));
        assert!(lines("<html>\n<body>\n", true).err().unwrap().contains("2 lines"));
        assert_eq!(shown_remarks(&lines("# nothing\n", true).unwrap()), ["f: has no entries"]);
        let garbage: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        assert!(lines(garbage, true).is_err());
    }

    #[test]
    fn only_a_regular_file_of_a_sane_size_is_opened() {
        let refused =
            |path: &str| nets(Path::new(path), true, 4, |_, _| true).unwrap_err().to_string();
        assert!(refused("/nonexistent").contains("No such file"));
        assert_eq!(refused("/dev/zero"), "is not a regular file");
        assert_eq!(refused("/"), "is not a regular file");
    }
}
