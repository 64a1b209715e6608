//! Time zones as POSIX writes them, which is how OpenWrt keeps them in `/etc/TZ`.
//!
//! Owns the way from universal time to local time. Names of zones (`Europe/Berlin`) need tables that
//! a router does not have, and are not read.

use crate::config::days_of;

/// How far local time is from universal time, and when that changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TimeZone {
    /// Seconds east of Greenwich.
    standard: i32,
    summer: Option<Summer>,
}

/// Summer time.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Summer {
    /// Seconds east of Greenwich.
    offset: i32,
    start: Change,
    end: Change,
}

/// A day of each year, and the second of that day, in the time that holds until then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Change {
    day: Day,
    second: i32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Day {
    /// The n-th such day of the week in a month; the fifth is the last.
    Week { month: i64, week: i64, day: i64 },
    /// Day of the year from 1 on; 29 February is never counted.
    Julian(i64),
    /// Day of the year from 0 on.
    Plain(i64),
}

/// A moment as a household sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Local {
    /// Day of the week, 0 is Sunday.
    pub weekday: u8,
    /// Minute of the day.
    pub minute: u16,
}

const DAY_S: i64 = 86_400;

impl TimeZone {
    /// Universal time.
    pub const UTC: Self = Self { standard: 0, summer: None };

    /// Reads a zone such as `CET-1CEST,M3.5.0,M10.5.0/3`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = Text(text.trim_end().as_bytes());
        rest.name()?;
        let standard = -rest.time(24)?;
        if rest.0.is_empty() {
            return Some(Self { standard, summer: None });
        }
        rest.name()?;
        let offset = match rest.0.first() {
            None | Some(b',') => standard + 3600,
            Some(_) => -rest.time(24)?,
        };
        if rest.0.is_empty() {
            // What the C library takes where a zone does not say.
            rest = Text(b",M3.2.0,M11.1.0");
        }
        let start = rest.change()?;
        let end = rest.change()?;
        rest.0.is_empty().then_some(Self { standard, summer: Some(Summer { offset, start, end }) })
    }

    /// The zone in the text of `/etc/TZ`, or of `/etc/config/system`.
    #[must_use]
    pub fn of_system(text: &str) -> Option<Self> {
        Self::parse(text.trim()).or_else(|| {
            let mut lines = text.lines().filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let is_zone = words.next() == Some("option") && words.next() == Some("timezone");
                words.next().filter(|_| is_zone)
            });
            lines.find_map(|value| Self::parse(value.trim_matches(['\'', '"'])))
        })
    }

    /// Seconds that local time is ahead of universal time at this second since 1970.
    #[must_use]
    pub fn offset(&self, utc_s: i64) -> i32 {
        let Some(summer) = &self.summer else { return self.standard };
        // At the turn of the year both sides have the same time in every zone there is.
        let (year, ..) =
            crate::config::date_of((utc_s + i64::from(self.standard)).div_euclid(DAY_S));
        let start = summer.start.in_year(year) - i64::from(self.standard);
        let end = summer.end.in_year(year) - i64::from(summer.offset);
        let is_summer = if start < end {
            (start..end).contains(&utc_s)
        } else {
            !(end..start).contains(&utc_s)
        };
        if is_summer { summer.offset } else { self.standard }
    }

    /// The local time at this second since 1970.
    #[must_use]
    pub fn local(&self, utc_s: i64) -> Local {
        let local_s = utc_s.saturating_add(self.offset(utc_s).into());
        Local {
            // 1970 began on a Thursday.
            weekday: (local_s.div_euclid(DAY_S) + 4).rem_euclid(7) as u8,
            minute: (local_s.rem_euclid(DAY_S) / 60) as u16,
        }
    }
}

impl Change {
    /// Seconds since 1970 as a clock on the wall counts them.
    const fn in_year(self, year: i64) -> i64 {
        let first = days_of(year, 1, 1);
        let day = match self.day {
            Day::Plain(day) => first + day,
            // In a common year 1 March is day 60, as it is here in every year.
            Day::Julian(day) if day < 60 => first + day - 1,
            Day::Julian(day) => days_of(year, 3, 1) + day - 60,
            Day::Week { month, week, day } => {
                let begin = days_of(year, month, 1);
                let of_first = (day - (begin + 4)).rem_euclid(7);
                let next =
                    if month == 12 { days_of(year + 1, 1, 1) } else { days_of(year, month + 1, 1) };
                let found = begin + of_first + (week - 1) * 7;
                if found >= next { found - 7 } else { found }
            }
        };
        day * DAY_S + self.second as i64
    }
}

/// What is left to read.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Skips an abbreviation: letters, or anything in angle brackets.
    fn name(&mut self) -> Option<()> {
        let len = if self.take(b'<') {
            let len = self.0.iter().position(|b| *b == b'>')?;
            self.0 = self.0.get(len + 1..)?;
            len
        } else {
            let len = self.0.iter().take_while(|b| b.is_ascii_alphabetic()).count();
            self.0 = self.0.get(len..)?;
            len
        };
        (len >= 3).then_some(())
    }

    fn number(&mut self, most: i32) -> Option<i32> {
        let len = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(len)?;
        let number = str::from_utf8(digits).ok()?.parse().ok()?;
        self.0 = rest;
        (0..=most).contains(&number).then_some(number)
    }

    /// Hours, with minutes and seconds or without, in seconds.
    fn time(&mut self, hours_max: i32) -> Option<i32> {
        let is_negative = self.take(b'-');
        if !is_negative {
            self.take(b'+');
        }
        let mut seconds = self.number(hours_max)? * 3600;
        if self.take(b':') {
            seconds += self.number(59)? * 60;
            if self.take(b':') {
                seconds += self.number(59)?;
            }
        }
        Some(if is_negative { -seconds } else { seconds })
    }

    fn change(&mut self) -> Option<Change> {
        if !self.take(b',') {
            return None;
        }
        let day = if self.take(b'M') {
            let month = self.number(12)?.into();
            let week = if self.take(b'.') { self.number(5)?.into() } else { 0 };
            let day = if self.take(b'.') { self.number(6)? } else { return None };
            if month < 1 || week < 1 {
                return None;
            }
            Day::Week { month, week, day: day.into() }
        } else if self.take(b'J') {
            Day::Julian(i64::from(self.number(365)?.max(1)))
        } else {
            Day::Plain(self.number(365)?.into())
        };
        let second = if self.take(b'/') { self.time(167)? } else { 2 * 3600 };
        Some(Change { day, second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Moment;

    fn at(text: &str) -> i64 {
        text.parse::<Moment>().unwrap().0
    }

    /// Offsets in minutes, as the tables of the C library have them.
    #[test]
    fn offsets_are_those_of_the_zones_of_the_world() {
        for (zone, moment, minutes) in [
            ("UTC0", "2026-07-01T00:00:00Z", 0),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-03-29T00:59:59Z", 60),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-03-29T01:00:00Z", 120),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-10-25T00:59:59Z", 120),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-10-25T01:00:00Z", 60),
            ("GMT0BST,M3.5.0/1,M10.5.0", "2026-07-01T12:00:00Z", 60),
            ("IST-1GMT0,M10.5.0,M3.5.0/1", "2026-07-01T12:00:00Z", 60),
            ("IST-1GMT0,M10.5.0,M3.5.0/1", "2026-12-01T12:00:00Z", 0),
            ("EST5EDT,M3.2.0,M11.1.0", "2026-03-08T06:59:59Z", -300),
            ("EST5EDT,M3.2.0,M11.1.0", "2026-03-08T07:00:00Z", -240),
            ("EST5EDT", "2026-11-01T05:59:59Z", -240),
            ("EST5EDT", "2026-11-01T06:00:00Z", -300),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", "2026-01-01T00:00:00Z", 660),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", "2026-07-01T00:00:00Z", 600),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", "2026-12-31T23:59:59Z", 660),
            ("<+0330>-3:30", "2026-07-01T00:00:00Z", 210),
            ("<-03>3<-02>,M3.5.0/-2,M10.5.0/-1", "2026-03-29T00:59:59Z", -180),
            ("<-03>3<-02>,M3.5.0/-2,M10.5.0/-1", "2026-03-29T01:00:00Z", -120),
            ("XXX3YYY,J60/0,J300", "2028-03-01T02:59:59Z", -180),
            ("XXX3YYY,J60/0,J300", "2028-03-01T03:00:00Z", -120),
            ("XXX3YYY,60/0,J300", "2028-03-01T03:00:00Z", -120),
            ("XXX3YYY,60/0,J300", "2027-03-02T02:59:59Z", -180),
        ] {
            let offset = TimeZone::parse(zone).unwrap().offset(at(moment));
            assert_eq!(offset, minutes * 60, "{zone} at {moment}");
        }
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for text in [
            "",
            "UTC",
            "C-1",
            "CET-25",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M3.5.0,M10.5.7",
            "CET-1CEST,M13.5.0,M10.5.0",
            "CET-1CEST,M3.5.0,M10.5.0/3x",
            "<+03-3",
            ":Europe/Berlin",
            "CET-1CEST,M3.0.0,M10.5.0",
            "CET-1CEST,M3.5.0/,M10.5.0",
        ] {
            assert_eq!(TimeZone::parse(text), None, "{text}");
        }
        assert_eq!(TimeZone::parse("UTC0\n"), Some(TimeZone::UTC));
    }

    #[test]
    fn the_zone_of_a_router_is_in_either_file() {
        let zone = TimeZone::parse("CET-1CEST,M3.5.0,M10.5.0/3");
        assert!(zone.is_some());
        assert_eq!(TimeZone::of_system("CET-1CEST,M3.5.0,M10.5.0/3\n"), zone);
        let system = "config system\n\toption hostname 'timezone'\n\
                      \toption zonename 'Europe/Berlin'\n\toption timezone 'CET-1CEST,M3.5.0,M10.5.0/3'\n";
        assert_eq!(TimeZone::of_system(system), zone);
        assert_eq!(TimeZone::of_system("config system\n"), None);
    }

    #[test]
    fn days_of_the_week_and_minutes_are_local() {
        let zone = TimeZone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // A Saturday.
        let local = |text| zone.local(at(text));
        assert_eq!(local("2026-11-21T20:07:59Z"), Local { weekday: 6, minute: 21 * 60 + 7 });
        assert_eq!(local("2026-11-21T23:00:00Z"), Local { weekday: 0, minute: 0 });
        assert_eq!(local("1969-12-31T22:59:00Z"), Local { weekday: 3, minute: 23 * 60 + 59 });
    }
}
