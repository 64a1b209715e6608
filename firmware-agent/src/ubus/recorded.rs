//! Transcripts of the real ubusd, as tests read them.

use std::path::Path;

/// A message of a transcript.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    /// Who sent it: `ubusd`, `C1`, ….
    pub(super) from: String,
    /// Who got it.
    pub(super) to: String,
    /// It.
    pub(super) frame: Vec<u8>,
}

/// A file of `tests/data/ubus`.
pub(super) fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/ubus");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// Bytes from hexadecimal digits.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The messages of a transcript.
pub(super) fn transcript(name: &str) -> Vec<Recorded> {
    let mut all: Vec<Recorded> = Vec::new();
    for line in file(name).lines().filter(|line| !line.starts_with('#')) {
        match line.split_once("->") {
            Some((from, to)) => {
                all.push(Recorded { from: from.to_owned(), to: to.to_owned(), frame: Vec::new() });
            }
            None => {
                if let Some(last) = all.last_mut() {
                    last.frame.extend(bytes(line));
                }
            }
        }
    }
    assert!(!all.is_empty(), "{name}");
    all
}

/// All transcripts.
pub(super) fn transcripts() -> Vec<(String, Vec<Recorded>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/ubus");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "hex"))
        .collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), transcript(&name))).collect()
}
