//! How much memory a router has, as far as defaults go by it.

/// Routers by their memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ram {
    /// 64 MiB.
    Mib64,
    /// 128 MiB, the most common one.
    #[default]
    Mib128,
    /// 256 MiB.
    Mib256,
    /// 512 MiB or more.
    Mib512,
}

impl Ram {
    /// The class of a machine of which the kernel manages so much: less than was built in, so each
    /// class begins in the middle between two. Where nothing is known it is the common one.
    #[must_use]
    pub const fn of(total_kib: u64) -> Self {
        match total_kib >> 10 {
            1..96 => Self::Mib64,
            0 | 96..192 => Self::Mib128,
            192..384 => Self::Mib256,
            384.. => Self::Mib512,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mib64 => "64 MiB",
            Self::Mib128 => "128 MiB",
            Self::Mib256 => "256 MiB",
            Self::Mib512 => "512 MiB and more",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_belongs_to_the_class_of_what_was_built_in() {
        for (kib, class) in [
            (0, Ram::Mib128),
            (56_000, Ram::Mib64),
            (118_244, Ram::Mib128),
            (245_000, Ram::Mib256),
            (500_000, Ram::Mib512),
            (24_000_000, Ram::Mib512),
        ] {
            assert_eq!(Ram::of(kib), class, "{kib}");
        }
    }
}
