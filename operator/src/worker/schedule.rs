//! Times at which more pods are kept.

use std::time::Duration;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};

use super::{InvalidSpec, optional_duration};

/// A time at which more pods are kept. It begins by the clock on the wall of its time zone and
/// lasts as long as its duration says, whatever clocks do in between.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    cron: Cron,
    time_zone: TimeZone,
    name: String,
    duration: Duration,
    /// Fewest pods while it lasts.
    pub min: u32,
}

/// A schedule that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Floor<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// When it ends.
    pub until: Timestamp,
}

impl Schedule {
    pub(super) fn parse(
        schedule: &api::Schedule,
        field: &str,
        max: u32,
    ) -> Result<Self, InvalidSpec> {
        let api::Schedule {
            cron,
            time_zone,
            duration,
            min_replicas,
        } = schedule;
        let at = |name: &str| format!("{field}.{name}");
        let refuse = |name: &str, what: String| Err(InvalidSpec::new(at(name), what));
        // No time zones of the machine's: a spec means the same everywhere.
        let zone = jiff::tz::TimeZoneDatabase::bundled().get(time_zone);
        let Ok(zone) = zone else {
            let what = format!(
                "{time_zone:?} is no time zone that is known; write its name, such as Europe/Berlin or UTC"
            );
            return refuse("timeZone", what);
        };
        let instead = "write five fields: minute, hour, day of month, month and day of week, such as 0 8 * * 1-5";
        if cron.split_whitespace().count() != 5 {
            return refuse("cron", format!("{cron:?}: {instead}"));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let parsed = match parser.parse(cron) {
            Ok(parsed) => parsed,
            Err(why) => return refuse("cron", format!("{cron:?}: {why}; {instead}")),
        };
        // Any moment does: what never comes after it never comes.
        let some_time = Timestamp::UNIX_EPOCH.to_zoned(zone.clone());
        if parsed.find_next_occurrence(&some_time, false).is_err() {
            return refuse(
                "cron",
                format!("{cron:?} is a time that never comes; {instead}"),
            );
        }
        let Some(duration) = optional_duration(Some(duration), &at("duration"))? else {
            return refuse(
                "duration",
                "write a duration above zero, such as 10h".to_owned(),
            );
        };
        if *min_replicas > max {
            let what = format!(
                "a schedule's minReplicas ({min_replicas}) must not be above maxReplicas ({max}); lower the one or raise the other"
            );
            return refuse("minReplicas", what);
        }
        Ok(Self {
            cron: parsed,
            time_zone: zone,
            name: time_zone.clone(),
            duration,
            min: *min_replicas,
        })
    }

    /// When it ends, if it holds now.
    pub fn holds_until(&self, now: Timestamp) -> Option<Timestamp> {
        let clock = now.to_zoned(self.time_zone.clone());
        let began = self.cron.find_previous_occurrence(&clock, true).ok()?;
        let until = began.timestamp().checked_add(self.duration).ok()?;
        (now < until).then_some(until)
    }
}

impl Floor<'_> {
    /// In words, such as `the schedule 0 8 * * 1-5 (Europe/Berlin, until Mon 18:00)`.
    pub fn words(&self) -> String {
        let Schedule {
            cron,
            time_zone,
            name,
            ..
        } = self.schedule;
        let until = self.until.to_zoned(time_zone.clone());
        let until = until.strftime("%a %H:%M");
        format!("the schedule {} ({name}, until {until})", cron.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: &str, duration: &str) -> Schedule {
        parse(cron, zone, duration).unwrap()
    }

    fn parse(cron: &str, zone: &str, duration: &str) -> Result<Schedule, InvalidSpec> {
        let schedule = api::Schedule {
            cron: cron.to_owned(),
            time_zone: zone.to_owned(),
            duration: duration.to_owned(),
            min_replicas: 5,
        };
        Schedule::parse(&schedule, "scaling.schedules[0]", 10)
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// Until when it holds at a moment.
    fn until(schedule: &Schedule, now: &str) -> Option<String> {
        Some(schedule.holds_until(at(now))?.to_string())
    }

    #[test]
    fn it_holds_from_its_beginning_until_its_end() {
        let office = schedule("0 8 * * 1-5", "Europe/Berlin", "10h");
        let end = Some("2026-01-05T17:00:00Z".to_owned());
        // A Monday in winter.
        assert_eq!(until(&office, "2026-01-05T06:59:59Z"), None);
        assert_eq!(until(&office, "2026-01-05T07:00:00Z"), end);
        assert_eq!(until(&office, "2026-01-05T16:59:59.9Z"), end);
        assert_eq!(until(&office, "2026-01-05T17:00:00Z"), None);
        // A Sunday, and a Monday in summer.
        assert_eq!(until(&office, "2026-01-04T12:00:00Z"), None);
        assert_eq!(until(&office, "2026-07-06T05:59:00Z"), None);
        let end = Some("2026-07-06T16:00:00Z".to_owned());
        assert_eq!(until(&office, "2026-07-06T06:00:00Z"), end);
    }

    #[test]
    fn one_that_begins_again_before_it_ends_goes_on() {
        let always = schedule("*/15 * * * *", "UTC", "1h");
        let end = Some("2026-01-05T13:45:00Z".to_owned());
        assert_eq!(until(&always, "2026-01-05T12:59:00Z"), end);
        let night = schedule("0 22 * * *", "UTC", "8h");
        let end = Some("2026-01-06T06:00:00Z".to_owned());
        assert_eq!(until(&night, "2026-01-06T01:00:00Z"), end, "over midnight");
    }

    #[test]
    fn clocks_that_are_changed_neither_skip_nor_repeat_it() {
        // 02:30 does not exist on 29 March 2026 in Berlin: it begins when clocks have gone on.
        let gap = schedule("30 2 * * *", "Europe/Berlin", "1h");
        assert_eq!(until(&gap, "2026-03-29T00:59:00Z"), None);
        assert!(until(&gap, "2026-03-29T01:31:00Z").is_some());
        // It exists twice on 25 October: the first counts.
        let twice = until(&gap, "2026-10-25T00:31:00Z");
        assert_eq!(twice, Some("2026-10-25T01:30:00Z".to_owned()));
        assert_eq!(until(&gap, "2026-10-25T01:31:00Z"), None);
        // Hours that pass are hours, also while clocks are changed.
        let over = schedule("0 1 * * *", "Europe/Berlin", "4h");
        let end = Some("2026-03-29T04:00:00Z".to_owned());
        assert_eq!(until(&over, "2026-03-29T02:00:00Z"), end);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_write() {
        for (cron, zone, duration, field, words) in [
            ("0 8 * *", "UTC", "1h", "cron", "write five fields"),
            ("0 8 * * * *", "UTC", "1h", "cron", "write five fields"),
            ("@daily", "UTC", "1h", "cron", "write five fields"),
            ("0 25 * * *", "UTC", "1h", "cron", "such as 0 8 * * 1-5"),
            ("0 8 * * MOM", "UTC", "1h", "cron", "such as 0 8 * * 1-5"),
            ("0 0 30 2 *", "UTC", "1h", "cron", "a time that never comes"),
            (
                "0 8 * * *",
                "Europe/Berln",
                "1h",
                "timeZone",
                "such as Europe/Berlin or UTC",
            ),
            (
                "0 8 * * *",
                "CEST+1",
                "1h",
                "timeZone",
                "no time zone that is known",
            ),
            (
                "0 8 * * *",
                "UTC",
                "0s",
                "duration",
                "write a duration above zero",
            ),
        ] {
            let refused = parse(cron, zone, duration).unwrap_err();
            assert_eq!(refused.field(), format!("scaling.schedules[0].{field}"));
            assert!(refused.to_string().contains(words), "{refused}");
        }
        for cron in [
            "0 8 * * MON-FRI",
            "*/5 8-18 1,15 JAN,DEC *",
            "0 0 29 2 *",
            "0 8 * * 7",
        ] {
            parse(cron, "America/New_York", "90m").unwrap();
        }
    }

    #[test]
    fn it_is_said_in_the_words_of_its_time_zone() {
        let office = schedule("0 8 * * 1-5", "Europe/Berlin", "10h");
        let floor = Floor {
            schedule: &office,
            until: office.holds_until(at("2026-01-05T12:00:00Z")).unwrap(),
        };
        assert_eq!(
            floor.words(),
            "the schedule 0 8 * * 1-5 (Europe/Berlin, until Mon 18:00)"
        );
    }
}
