//! Which schedules hold.
//!
//! Owns the state of schedules and ends of rules. It is computed anew from the time of day whenever
//! somebody looks, so a clock that jumps leaves nothing behind; while the time is not known, what
//! was stays.

use super::zone::{Local, TimeZone};
use crate::config::{Moment, Schedule};

/// Whether the schedule holds at this time of day.
#[must_use]
pub(super) fn holds(schedule: &Schedule, now: Local) -> bool {
    let is_day = |weekday: u8| schedule.days & (1 << weekday) != 0;
    let (today, yesterday) = (is_day(now.weekday), is_day((now.weekday + 6) % 7));
    if schedule.slots.is_empty() {
        return today;
    }
    schedule.slots.iter().any(|slot| {
        if slot.from < slot.to {
            today && (slot.from..slot.to).contains(&now.minute)
        } else {
            (today && now.minute >= slot.from) || (yesterday && now.minute < slot.to)
        }
    })
}

/// Schedules with their states.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    all: Box<[(Schedule, bool)]>,
    zone: Option<TimeZone>,
}

impl Schedules {
    /// None of them holds until the time is known.
    #[must_use]
    pub fn new(schedules: impl IntoIterator<Item = Schedule>, zone: TimeZone) -> Self {
        let all = schedules.into_iter().map(|schedule| (schedule, false)).collect();
        Self { all, zone: Some(zone) }
    }

    /// The number of the schedule with this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.all.iter().position(|(schedule, _)| schedule.name == name).map(|place| place as u32)
    }

    /// Whether this schedule holds.
    #[must_use]
    pub fn is_on(&self, number: u32) -> bool {
        self.all.get(number as usize).is_some_and(|(_, is_on)| *is_on)
    }

    /// Takes over the states of schedules that have the same name in `old`.
    pub fn inherit(&mut self, old: &Self) {
        for (schedule, is_on) in &mut self.all {
            let same = old.all.iter().find(|(other, _)| other.name == schedule.name);
            *is_on = same.is_some_and(|(_, is_on)| *is_on);
        }
    }

    /// Whether one of the states is another at `now_s` seconds since 1970.
    #[must_use]
    pub fn changes(&self, now_s: i64) -> bool {
        let now = self.zone.as_ref().unwrap_or(&TimeZone::UTC).local(now_s);
        self.all.iter().any(|(schedule, is_on)| holds(schedule, now) != *is_on)
    }

    /// Brings the states to what they are at `now_s` seconds since 1970. Says whether one changed.
    pub fn update(&mut self, now_s: i64) -> bool {
        let now = self.zone.as_ref().unwrap_or(&TimeZone::UTC).local(now_s);
        let mut is_changed = false;
        for (schedule, is_on) in &mut self.all {
            let holds = holds(schedule, now);
            is_changed |= holds != *is_on;
            *is_on = holds;
        }
        is_changed
    }
}

/// Whether a rule with this end is over at `now_s` seconds since 1970.
#[must_use]
pub(super) fn is_over(until: Option<Moment>, now_s: i64) -> bool {
    until.is_some_and(|until| until.0 <= now_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DAYS;

    fn schedule(days: &str, slots: &[&str]) -> Schedule {
        let bit = |day: &str| 1 << DAYS.iter().position(|known| *known == day).unwrap();
        Schedule {
            name: "s".to_owned(),
            days: days.split(' ').map(bit).sum(),
            slots: slots.iter().map(|slot| slot.parse().unwrap()).collect(),
        }
    }

    fn local(day: &str, hour: u16, minute: u16) -> Local {
        let weekday = DAYS.iter().position(|known| *known == day).unwrap() as u8;
        Local { weekday, minute: hour * 60 + minute }
    }

    #[test]
    fn slots_begin_and_end_to_the_minute_and_go_over_midnight() {
        let school = schedule("mon tue", &["08:00-12:30", "14:00-24:00"]);
        for (day, hour, minute, expected) in [
            ("mon", 7, 59, false),
            ("mon", 8, 0, true),
            ("tue", 12, 29, true),
            ("tue", 12, 30, false),
            ("tue", 23, 59, true),
            ("wed", 0, 0, false),
            ("sun", 9, 0, false),
        ] {
            assert_eq!(holds(&school, local(day, hour, minute)), expected, "{day} {hour}:{minute}");
        }
        // The night belongs to the day on which it begins.
        let night = schedule("fri sat", &["22:00-07:00"]);
        for (day, hour, expected) in [
            ("fri", 21, false),
            ("fri", 6, false),
            ("fri", 22, true),
            ("sat", 6, true),
            ("sat", 7, false),
            ("sun", 6, true),
            ("sun", 22, false),
            ("mon", 6, false),
        ] {
            assert_eq!(holds(&night, local(day, hour, 0)), expected, "{day} {hour}");
        }
        assert!(holds(&schedule("sun", &[]), local("sun", 0, 0)));
        assert!(!holds(&schedule("sun", &[]), local("mon", 0, 0)));
    }

    /// R170: the state follows the clock wherever it jumps, and stays while nobody knows the time.
    #[test]
    fn states_follow_a_clock_that_jumps() {
        let every = "sun mon tue wed thu fri sat";
        let zone = TimeZone::parse("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let mut schedules = Schedules::new([schedule(every, &["02:00-04:00"])], zone.clone());
        let at = |text: &str| text.parse::<Moment>().unwrap().0;
        assert!(!schedules.is_on(0));
        // The hour from 2 to 3 comes twice in October and not at all in March.
        for (moment, is_on, is_changed) in [
            ("2026-10-25T00:30:00Z", true, true),
            ("2026-10-25T01:30:00Z", true, false),
            ("2026-10-25T02:59:59Z", true, false),
            ("2026-10-25T03:00:00Z", false, true),
            ("2026-03-29T01:00:00Z", true, true),
            ("2026-03-29T00:59:59Z", false, true),
            ("2036-07-01T00:00:00Z", true, true),
            ("1970-01-01T00:00:00Z", false, true),
        ] {
            assert_eq!(schedules.update(at(moment)), is_changed, "{moment}");
            assert_eq!(schedules.is_on(0), is_on, "{moment}");
        }
        schedules.update(at("2036-07-01T00:00:00Z"));
        let mut next = Schedules::new([schedule(every, &["01:00-01:30"])], zone);
        next.inherit(&schedules);
        assert!(next.is_on(0), "a reload before the time is known keeps it");
    }
}
