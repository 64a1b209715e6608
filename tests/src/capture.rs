//! What a host sends, recorded by tcpdump, and the ClientHellos in it as tshark reads them.
//!
//! Nothing here is the agent's code: the fingerprints that it shows are compared with these.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::{ETH, Host};
use crate::process::{self, Daemon};

/// Time for tcpdump to start and to end.
const LIMIT: Duration = Duration::from_secs(20);

/// A running recording of a host's interface.
#[derive(Debug)]
pub struct Capture {
    daemon: Daemon,
    file: PathBuf,
}

impl Capture {
    /// Records what `filter` lets through to `directory/name.pcap`.
    pub fn start(host: &Host, filter: &str, directory: &Path, name: &str) -> Result<Self> {
        process::need(&["tcpdump", "tshark"])?;
        let file = directory.join(format!("{name}.pcap"));
        let mut command = host.netns.command("tcpdump");
        // As root: another user could not write there.
        command.args(["-i", ETH, "--immediate-mode", "-U", "-Z", "root", "-w"]).arg(&file);
        command.arg(filter);
        let mut daemon = Daemon::spawn(&format!("tcpdump-{name}"), command, directory)?;
        daemon.wait_for_text("listening on", LIMIT)?;
        Ok(Self { daemon, file })
    }

    /// Ends it and gives its file.
    pub fn finish(mut self) -> Result<PathBuf> {
        self.daemon.stop()?;
        Ok(self.file)
    }
}

/// A ClientHello, over TCP or in QUIC.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hello {
    /// The client's port.
    pub port: u16,
    /// Server name.
    pub name: Option<String>,
    /// Application protocols in their order.
    pub alpn: Vec<String>,
    /// Types of its extensions, in their order and with reserved ones.
    pub extensions: Vec<u16>,
    /// tshark's JA3.
    pub ja3: String,
    /// JA4 of the fields that tshark read.
    pub ja4: String,
}

/// Fields of tshark, in the order that [`hello`] reads them.
const FIELDS: [&str; 10] = [
    "tcp.srcport",
    "udp.srcport",
    "tls.handshake.extensions_server_name",
    "tls.handshake.extensions_alpn_str",
    "tls.handshake.extension.type",
    "tls.handshake.ciphersuite",
    "tls.handshake.version",
    "tls.handshake.extensions.supported_version",
    "tls.handshake.sig_hash_alg",
    "tls.handshake.ja3",
];

/// The ClientHellos of a recording.
pub fn hellos(file: &Path) -> Result<Vec<Hello>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", "tls.handshake.type == 1", "-T", "fields"]);
    command.args(["-E", "separator=/t", "-E", "aggregator=,", "-E", "occurrence=a"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    process::run(&mut command)?.lines().map(hello).collect()
}

fn hello(line: &str) -> Result<Hello> {
    let unusable = || Error::Unusable(format!("tshark said \"{line}\""));
    let fields: [&str; FIELDS.len()] =
        line.split('\t').collect::<Vec<_>>().try_into().ok().ok_or_else(unusable)?;
    let [tcp, udp, name, alpn, extensions, ciphers, version, versions, algorithms, ja3] = fields;
    let list = |text: &str| -> Result<Vec<u16>> {
        let words = text.split(',').filter(|word| !word.is_empty());
        words.map(|word| number(word).ok_or_else(unusable)).collect()
    };
    let transport = if tcp.is_empty() { 'q' } else { 't' };
    let port = number(if tcp.is_empty() { udp } else { tcp }).ok_or_else(unusable)?;
    let alpn: Vec<String> =
        alpn.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let extensions = list(extensions)?;
    let known = without_reserved(&extensions);
    let highest = without_reserved(&list(versions)?).into_iter().max();
    let version = highest.or_else(|| number(version)).ok_or_else(unusable)?;
    let ciphers = without_reserved(&list(ciphers)?);
    let first = alpn.first().map_or("00".to_owned(), |first| ends(first));
    let ja4 = format!(
        "{transport}{}{}{:02}{:02}{first}_{}_{}",
        version_word(version).ok_or_else(unusable)?,
        if known.contains(&0) { 'd' } else { 'i' },
        ciphers.len().min(99),
        known.len().min(99),
        hash(&sorted(ciphers))?,
        hash(&extension_text(&known, &without_reserved(&list(algorithms)?)))?,
    );
    let name = (!name.is_empty()).then(|| name.to_owned());
    Ok(Hello { port, name, alpn, extensions, ja3: ja3.to_owned(), ja4 })
}

/// tshark writes some numbers in decimal and some in hexadecimal digits.
fn number(word: &str) -> Option<u16> {
    let digits = word.strip_prefix("0x");
    digits.map_or_else(|| word.parse().ok(), |digits| u16::from_str_radix(digits, 16).ok())
}

/// Without the values of RFC 8701.
fn without_reserved(values: &[u16]) -> Vec<u16> {
    let is_reserved = |value: u16| value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff;
    values.iter().copied().filter(|value| !is_reserved(*value)).collect()
}

const fn version_word(version: u16) -> Option<&'static str> {
    match version {
        0x0301 => Some("10"),
        0x0302 => Some("11"),
        0x0303 => Some("12"),
        0x0304 => Some("13"),
        _ => None,
    }
}

/// First and last character.
fn ends(text: &str) -> String {
    text.chars().next().into_iter().chain(text.chars().next_back()).collect()
}

fn joined(values: &[u16]) -> String {
    values.iter().map(|value| format!("{value:04x}")).collect::<Vec<_>>().join(",")
}

fn sorted(mut values: Vec<u16>) -> String {
    values.sort_unstable();
    joined(&values)
}

/// All extensions but server name and ALPN, sorted, then the signature algorithms as they came.
fn extension_text(extensions: &[u16], algorithms: &[u16]) -> String {
    let others = extensions.iter().copied().filter(|kind| ![0, 16].contains(kind)).collect();
    let mut text = sorted(others);
    if !algorithms.is_empty() {
        text = format!("{text}_{}", joined(algorithms));
    }
    text
}

/// Twelve digits of SHA-256, by `sha256sum`.
fn hash(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok("0".repeat(12));
    }
    let sum = process::feed(&mut Command::new("sha256sum"), text)?;
    Ok(sum.chars().take(12).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of tshark with what the published description of JA4 takes as its example.
    #[test]
    fn the_published_example_of_ja4_comes_out() {
        let line = "40000\t\twww.example.com\th2,http/1.1\t\
             10794,27,0,51,16,17513,23,45,13,5,35,18,43,65281,11,10,21\t\
             0xdada,0x1301,0x1302,0x1303,0xc02b,0xc02f,0xc02c,0xc030,0xcca9,0xcca8,0xc013,0xc014,\
             0x009c,0x009d,0x002f,0x0035\t0x0303\t0xeaea,0x0304,0x0303\t\
             0x0403,0x0804,0x0401,0x0503,0x0805,0x0501,0x0806,0x0601\tx";
        let hello = hello(line).unwrap();
        assert_eq!(hello.ja4, "t13d1516h2_8daaf6152771_e5627efa2ab1");
        assert_eq!((hello.port, hello.name.as_deref()), (40_000, Some("www.example.com")));
        assert_eq!(hello.alpn, ["h2", "http/1.1"]);
    }
}
