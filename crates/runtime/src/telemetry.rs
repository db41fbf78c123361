//! The program's log: one line an event, on standard error.

use std::str::FromStr;

use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A log format that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log format: write text or json")]
pub struct InvalidFormat(String);

/// A log level that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a log level: write error, warn, info, debug or trace, or one per target as in info,hyper=warn"
)]
pub struct InvalidLevel(String);

impl FromStr for LogFormat {
    type Err = InvalidFormat;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(InvalidFormat(s.to_owned())),
        }
    }
}

/// Whether [`init`] would take this level.
pub fn check_level(level: &str) -> Result<(), InvalidLevel> {
    parse(level).map(drop)
}

/// Starts logging. In a process that logs already, nothing changes.
pub fn init(level: &str, format: LogFormat) -> Result<(), InvalidLevel> {
    let filter = parse(level)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    Ok(())
}

/// `Targets` and not `EnvFilter`: the latter's regular expressions cost a megabyte of memory.
fn parse(level: &str) -> Result<Targets, InvalidLevel> {
    let refuse = || InvalidLevel(level.to_owned());
    if level.trim().is_empty() {
        return Err(refuse());
    }
    // A lone word that is no level would be taken for a target, and silently log all of it.
    for part in level.split(',').filter(|part| !part.contains('=')) {
        part.trim()
            .parse::<tracing_subscriber::filter::LevelFilter>()
            .map_err(|_| refuse())?;
    }
    level.parse().map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for good in ["info", "WARN", "debug", "off", "info,hyper=warn"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "loud", "info,hyper", "hyper=loud"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn formats() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("text".parse(), Ok(LogFormat::Text));
        let message = "xml".parse::<LogFormat>().unwrap_err().to_string();
        assert!(message.contains("text or json"), "{message}");
    }
}
