//! What the agent tells about the devices of the household. Field names are an interface: `--json`
//! prints them. What is not known is absent.

use std::net::IpAddr;

use serde::Serialize;

/// A part of the devices, those that moved most bytes first.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct DevicePage {
    /// How many there are.
    pub total: u64,
    /// How many are left out before these.
    pub offset: u64,
    /// Milliseconds over which the rates were measured; absent where there was no reading before this
    /// one that was recent enough, and no device has a rate then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// What carries packets that nobody counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blind: Vec<String>,
    /// The devices.
    pub devices: Vec<Device>,
}

/// A device: a hardware address of the LAN.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Device {
    /// Its hardware address, with colons.
    pub mac: String,
    /// Whether that is one which the device, or its administrator, made up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub random: bool,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who says so: `configuration`, or `lease`: the device itself when it got its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_source: Option<&'static str>,
    /// Groups that name it, by name of the section.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Addresses that it was seen with, the last first.
    pub addresses: Vec<IpAddr>,
    /// How many more it has.
    #[serde(skip_serializing_if = "is_none")]
    pub more_addresses: u64,
    /// The interface that it is behind, by name of the section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Seconds since it was last known to be there: it sent or got a packet of a decided flow, or the
    /// kernel confirmed its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_s_ago: Option<u64>,
    /// Packets that it sent and that were let through since the agent began, or a change brought it up
    /// anew; this and the three that follow are absent where no flow of it was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_packets: Option<u64>,
    /// Their bytes, from the IP header on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_bytes: Option<u64>,
    /// Packets that it received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_packets: Option<u64>,
    /// Their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_bytes: Option<u64>,
    /// Bits a second that it sent in the interval; absent where that was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_bps: Option<u64>,
    /// Bits a second that it received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_bps: Option<u64>,
    /// Rules in force that pause, block or limit all of its flows, whatever their other end is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<DeviceRule>,
}

/// A rule about a device.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct DeviceRule {
    /// Name of the section.
    pub name: String,
    /// `pause`, `block`, `reject` or `limit`.
    pub action: &'static str,
    /// The rate of each direction of each flow, with `limit`, in kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kbit: Option<u32>,
    /// Seconds until it ends by itself; absent where it does not, or the time of day is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_s: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}
