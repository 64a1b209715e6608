//! What `/etc/config/dhcp` says about leases. The file is not ours: what can be read of it counts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::remark::Remarks;
use super::uci::Package;

/// Where dnsmasq keeps its leases on OpenWrt unless option `leasefile` says otherwise.
const DNSMASQ_LEASES: &str = "/tmp/dhcp.leases";
/// Files of leases; a router with more servers has none of the size that this is for.
const FILES_MAX: usize = 8;

/// A program that hands out addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DhcpServer {
    /// dnsmasq.
    Dnsmasq,
    /// odhcpd.
    Odhcpd,
}

/// A file in which a server keeps its leases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseFile {
    /// Whose it is, and with that its form.
    pub server: DhcpServer,
    /// Its absolute path.
    pub path: PathBuf,
}

/// The files of leases that the text of `/etc/config/dhcp` names; without one, that of dnsmasq.
#[must_use]
pub fn lease_files(text: Option<&[u8]>) -> Vec<LeaseFile> {
    let mut remarks = Remarks::new("".into());
    let package = text.map(|text| Package::parse(text, &mut remarks)).unwrap_or_default();
    let mut files: Vec<LeaseFile> = Vec::new();
    for section in &package.sections {
        let value = section.entry("leasefile").and_then(|entry| entry.values.last());
        let path = value.map(|value| OsStr::from_bytes(&value.bytes));
        let (server, path) = match (section.kind.as_str(), path) {
            ("dnsmasq", path) => (DhcpServer::Dnsmasq, path.unwrap_or(DNSMASQ_LEASES.as_ref())),
            ("odhcpd", Some(path)) => (DhcpServer::Odhcpd, path),
            _ => continue,
        };
        let file = LeaseFile { server, path: path.into() };
        if file.path.is_absolute() && files.len() < FILES_MAX && !files.contains(&file) {
            files.push(file);
        }
    }
    if text.is_none() {
        files.push(LeaseFile { server: DhcpServer::Dnsmasq, path: DNSMASQ_LEASES.into() });
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Vec<(DhcpServer, String)> {
        let files = lease_files(Some(text.as_bytes())).into_iter();
        files.map(|file| (file.server, file.path.display().to_string())).collect()
    }

    #[test]
    fn files_of_leases_are_those_of_the_configuration() {
        let dnsmasq = |path: &str| (DhcpServer::Dnsmasq, path.to_owned());
        let odhcpd = |path: &str| (DhcpServer::Odhcpd, path.to_owned());
        // As OpenWrt 24.10 ships it.
        let usual = "config dnsmasq\n\toption domainneeded '1'\n\toption leasefile '/tmp/dhcp.leases'\n\
                     config dhcp 'lan'\n\toption start '100'\n\
                     config odhcpd 'odhcpd'\n\toption maindhcp '0'\n\toption leasefile '/tmp/hosts/odhcpd'\n";
        assert_eq!(files(usual), [dnsmasq("/tmp/dhcp.leases"), odhcpd("/tmp/hosts/odhcpd")]);
        let two = "config dnsmasq a\noption leasefile /x\nconfig dnsmasq b\nconfig dnsmasq c\n\
                   config odhcpd\nconfig other\noption leasefile /y\n";
        assert_eq!(files(two), [dnsmasq("/x"), dnsmasq("/tmp/dhcp.leases")]);
        assert_eq!(files("config dnsmasq\noption leasefile relative\n"), []);
        assert_eq!(
            files("config odhcpd\noption leasefile /o\nconfig dnsmasq 'x\n"),
            [odhcpd("/o")]
        );
        assert_eq!(files(""), []);
        let many: Vec<_> =
            (0..20).map(|n| format!("config dnsmasq\noption leasefile /{n}\n")).collect();
        assert_eq!(files(&many.concat()).len(), FILES_MAX);
        let alone = lease_files(None);
        assert_eq!((alone.len(), alone[0].path.to_str()), (1, Some("/tmp/dhcp.leases")));
    }
}
