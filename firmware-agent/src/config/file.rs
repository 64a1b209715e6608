//! Files of addresses and prefixes.
//!
//! Reads a file line by line in bounded memory. Lines that are no address, or that no blocklist may
//! hold, are left out and reported; they do not cost the rest of the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::rc::Rc;

use super::net::Net;
use super::remark::{Remark, shown};

/// Longest line that can hold an entry and a comment.
const LINE_MAX: usize = 256;
/// Largest file that is read to its end.
const SIZE_MAX: u64 = 16 << 20;
/// Left-out lines that are shown one by one.
const SHOWN_MAX: usize = 3;

/// What a file held.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) nets: Vec<Net>,
    /// Lines that were left out: the first few in words, and a sum.
    pub(super) remarks: Vec<Remark>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("is not a regular file")]
    Kind,
    #[error("is larger than 16 MiB")]
    Size,
    #[error("has more than {0} entries, the most that max_entries allows")]
    Entries(usize),
    #[error("has no line that is an address or prefix ({0} lines are something else)")]
    NoEntry(usize),
}

/// Reads a file of at most `most` entries; for a blocklist, leaves out what must not be blocked.
pub(super) fn read(path: &Path, is_blocklist: bool, most: usize) -> Result<Entries, FileError> {
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
    read_lines(BufReader::new(file.take(SIZE_MAX)), &name, is_blocklist, most)
}

fn read_lines(
    mut file: impl BufRead,
    name: &Rc<str>,
    is_blocklist: bool,
    most: usize,
) -> Result<Entries, FileError> {
    let mut entries = Entries::default();
    let mut left_out = 0;
    let mut number = 0;
    let mut line = Vec::with_capacity(LINE_MAX);
    loop {
        line.clear();
        if file.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        let whole = line.len() < LINE_MAX || line.ends_with(b"\n");
        if !whole {
            file.skip_until(b'\n')?;
        }
        let text = line.split(|&b| b == b'#').next().unwrap_or_default().trim_ascii();
        if text.is_empty() {
            continue; // a long comment is a comment
        }
        let has_comment = line.contains(&b'#');
        let read = match str::from_utf8(text) {
            _ if !whole && !has_comment => Err("is too long".to_owned()),
            Ok(text) => entry(text, is_blocklist),
            Err(_) => Err("is not UTF-8".to_owned()),
        };
        match read {
            Ok(_) if entries.nets.len() == most => return Err(FileError::Entries(most)),
            Ok(net) => entries.nets.push(net),
            Err(why) => {
                if left_out < SHOWN_MAX {
                    let text = shown(&String::from_utf8_lossy(text));
                    let reason = format!("{text} {why}; the line is left out");
                    entries.remarks.push(remark(name, number, reason));
                }
                left_out += 1;
            }
        }
    }
    if entries.nets.is_empty() && left_out > 0 {
        return Err(FileError::NoEntry(left_out));
    }
    if entries.nets.is_empty() {
        entries.remarks.push(remark(name, 0, "has no entries".to_owned()));
    }
    if left_out > SHOWN_MAX {
        let reason = format!("{left_out} lines are left out; the first {SHOWN_MAX} are shown");
        entries.remarks.push(remark(name, 0, reason));
    }
    Ok(entries)
}

fn entry(text: &str, is_blocklist: bool) -> Result<Net, String> {
    let net: Net = text.parse().map_err(|err: super::net::NetError| err.to_string())?;
    match net.lock_out() {
        Some(why) if is_blocklist => Err(why),
        _ => Ok(net),
    }
}

fn remark(file: &Rc<str>, line: u32, reason: String) -> Remark {
    Remark { file: Rc::clone(file), line, path: String::new(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: impl AsRef<[u8]>, is_blocklist: bool) -> Result<Entries, String> {
        read_lines(text.as_ref(), &"f".into(), is_blocklist, 4).map_err(|err| err.to_string())
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
    fn bad_lines_are_left_out_counted_and_the_first_few_shown() {
        let text = "192.0.2.1\nexample.com\n10.0.0.0/40\n\x1b[2J\nbad\nbad\n198.51.100.1\n";
        let entries = lines(text, true).unwrap();
        assert_eq!(shown_entries(&entries), ["192.0.2.1", "198.51.100.1"]);
        assert_eq!(
            shown_remarks(&entries),
            [
                "f:2: 'example.com' is not an IPv4 or IPv6 address or prefix; the line is left out",
                "f:3: '10.0.0.0/40' has a prefix length that is not 0 to 32 (IPv4) or 0 to 128 \
                 (IPv6); the line is left out",
                "f:4: '\\u{1b}[2J' is not an IPv4 or IPv6 address or prefix; the line is left out",
                "f: 5 lines are left out; the first 3 are shown",
            ]
        );
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
        assert!(lines(five, true).unwrap_err().contains("more than 4 entries"));
        assert!(lines("<html>\n<body>\n", true).unwrap_err().contains("2 lines"));
        assert_eq!(shown_remarks(&lines("# nothing\n", true).unwrap()), ["f: has no entries"]);
        let garbage: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        assert!(lines(garbage, true).is_err());
    }

    #[test]
    fn only_a_regular_file_of_a_sane_size_is_opened() {
        let read = |path: &str| read(Path::new(path), true, 4).unwrap_err().to_string();
        assert!(read("/nonexistent").contains("No such file"));
        assert_eq!(read("/dev/zero"), "is not a regular file");
        assert_eq!(read("/"), "is not a regular file");
    }
}
