//! Where a name comes from, and which counts when several are there.

/// What said the name of a server. Append only: names are in reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// A ClientHello in TCP.
    Tls,
    /// A ClientHello in QUIC.
    Quic,
    /// A request of plain HTTP.
    Http,
    /// An answer of DNS that gave the name this address.
    Dns,
    /// An answer of DNS that gave this address the name.
    Ptr,
}

impl Source {
    /// How much it counts: of several names that with the highest is shown.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Tls | Self::Quic | Self::Http => 100,
            Self::Dns => 80,
            Self::Ptr => 20,
        }
    }

    /// The word used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Ptr => "ptr",
        }
    }
}
