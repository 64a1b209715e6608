//! Sections `schedule` and `group`: when rules hold, and for which devices.

use std::fmt;
use std::str::FromStr;

use super::condition::Device;
use super::reader::{FromUci, Placed, Reader};
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};

/// A part of the day in local time, in minutes; one that ends before it begins goes over midnight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    /// The first minute.
    pub from: u16,
    /// The minute behind the last one, at most 1440.
    pub to: u16,
}

impl FromStr for Slot {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not a part of a day, such as 08:00-12:30 or 21:00-07:00";
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let two = |text: &str| {
                let fits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
                if fits { text.parse::<u16>().ok() } else { None }
            };
            let (hour, minute) = (two(hour)?, two(minute)?);
            (minute < 60 && hour * 60 + minute <= 1440).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or(WRONG)?;
        match (minute(from), minute(to)) {
            (Some(from), Some(to)) if from != to && from < 1440 => Ok(Self { from, to }),
            _ => Err(WRONG),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = *self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// Days of the week by their words, from Sunday on.
pub const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When a rule holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schedule {
    /// Name of the section, or `@schedule[0]`.
    pub name: String,
    /// Days on which a slot begins, one bit each, Sunday the lowest.
    pub days: u8,
    /// Parts of those days; none is all day.
    pub slots: Vec<Slot>,
}

/// Devices with a name for all of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Name of the section, or `@group[0]`.
    pub name: String,
    /// The devices.
    pub devices: Vec<Device>,
}

pub(super) const SCHEDULE: SectionSpec = SectionSpec {
    kind: "schedule",
    example: "bedtime",
    about: "When rules that name this schedule hold, in the time zone of the router. Until the router knows the time, a schedule stays as it was, and one that never was in force is not.",
    options: &[
        OptionSpec::list(
            "day",
            Kind::Word(&["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
            Fallback::Value("mon tue wed thu fri sat sun"),
            "Days on which its slots begin.",
        ),
        OptionSpec::list(
            "slot",
            Kind::Slot,
            Fallback::Empty,
            "Parts of the day; one that ends before it begins goes on after midnight. Without one, the whole day.",
        ),
    ],
};

pub(super) const GROUP: SectionSpec = SectionSpec {
    kind: "group",
    example: "children",
    about: "Devices with one name for rules.",
    options: &[OptionSpec::list(
        "device",
        Kind::Host,
        Fallback::Required,
        "Hardware addresses, addresses or prefixes of its devices.",
    )],
};

/// A day of the week.
struct Day(u8);

impl FromUci for Day {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        let found = DAYS.iter().position(|day| *day == text);
        found.map(|day| Self(1 << day)).ok_or_else(|| format!("is not one of {kind}"))
    }
}

impl Schedule {
    pub(super) fn read(name: String, mut uci: Reader<'_>) -> Self {
        let days: Vec<Placed<Day>> = uci.list("day");
        Self {
            name,
            days: days.into_iter().fold(0, |days, day| days | day.value.0),
            slots: uci.values("slot"),
        }
    }
}

impl Group {
    pub(super) fn read(name: String, mut uci: Reader<'_>) -> Self {
        Self { name, devices: uci.values("device") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_parts_of_a_day() {
        for text in ["08:00-12:30", "21:00-07:00", "00:00-24:00", "23:59-00:00"] {
            assert_eq!(text.parse::<Slot>().unwrap().to_string(), text);
        }
        for text in
            ["", "8:00-9:00", "08:00", "08:00-08:00", "24:00-01:00", "08:60-09:00", "08:00-24:01"]
        {
            assert!(text.parse::<Slot>().is_err(), "{text}");
        }
    }
}
