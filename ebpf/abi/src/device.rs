//! What a network card runs by itself: the reduced shield `xdp_device`.

/// A sum in `DEVICE_TOTALS`. Two, because that is what the smallest device holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Total {
    /// Packets dropped.
    Packets = 0,
    /// Bytes of those packets, link header included.
    Bytes = 1,
}

impl Total {
    /// Entries of the map.
    pub const COUNT: u32 = 2;
}
