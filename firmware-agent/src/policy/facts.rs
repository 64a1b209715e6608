//! What is known about a flow when it is judged.

use sluice_abi::flow::Addr;

use crate::config::{Fingerprint, Mac};

/// What is known about a flow.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Address of the device of the household, else of who opened the connection.
    pub device: Addr,
    /// Its hardware address. `None` where the link has none, and in a connection that was opened
    /// from outside until the device has sent something: no rule for a hardware address holds then.
    pub mac: Option<Mac>,
    /// Number of the interface it is behind; `None` when it is no interface of the configuration.
    pub zone: Option<u8>,
    /// Address of the other end.
    pub peer: Addr,
    /// Port that the connection was opened to.
    pub port: u16,
    /// Number of the transport protocol.
    pub transport: u8,
    /// What the payload said; `None` as long as more may come.
    pub seen: Option<Seen<'a>>,
}

/// What the payload of a flow said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// Names of the server, in lower case: of a ClientHello, of a request.
    pub names: &'a [&'a str],
    /// JA3 and JA4 of a ClientHello.
    pub fingerprints: &'a [Fingerprint],
    /// What it speaks.
    pub protocol: Option<&'a str>,
}
