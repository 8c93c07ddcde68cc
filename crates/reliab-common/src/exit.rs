//! The exit codes of jobs and of checks, written down once.

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to end: a code for the shell, a name for JSON and the state.
pub trait Ending: Copy {
    /// The codes as a section of `--help`.
    const HELP: &'static str;

    /// The number the process exits with.
    fn code(self) -> u8;

    /// The name used in JSON and in the state file.
    fn name(self) -> &'static str;

    /// What the ending says about the health of what was run.
    fn level(self) -> Level;

    /// How a run ends whose work failed so.
    fn failed(exit: Exit) -> Self;

    /// The graver of two, by what an operator must hear of first.
    #[must_use]
    fn worst(self, other: Self) -> Self;
}

/// Declares the codes, and from the same lines their names, their meanings and the text for `--help`.
macro_rules! exits {
    ($(#[$about:meta])+ $type:ident, $help:ident: $($variant:ident = $code:literal, $name:literal, $meaning:literal;)+) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[repr(u8)]
        pub enum $type {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant = $code,)+
        }

        impl $type {
            /// Every code, in numeric order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name used in JSON and in the state file.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What the code says to a person.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }

        #[doc = concat!("The codes of [`", stringify!($type), "`] as a section of `--help`.")]
        pub const $help: &str = concat!("Exit codes:", $("\n  ", $code, "  ", $meaning),+);
    };
}

exits! {
    /// How a job ended.
    Exit, JOB_EXIT_HELP:
    Done = 0, "done", "done";
    Failed = 1, "failed", "failed";
    Usage = 2, "usage", "usage or configuration error";
    Partial = 3, "partial", "done in part: some source was unreadable, the rest is safe";
    Damaged = 4, "damaged", "data missing or damaged";
    Locked = 5, "locked", "another run holds the lock";
    TargetMissed = 6, "target_missed", "a target was missed";
    InvalidMeasurement = 7, "invalid_measurement", "the measurement is not valid";
}

exits! {
    /// What a check found, in the convention of monitoring plugins.
    Level, CHECK_EXIT_HELP:
    Ok = 0, "ok", "OK";
    Warning = 1, "warning", "WARNING";
    Critical = 2, "critical", "CRITICAL";
    Unknown = 3, "unknown", "UNKNOWN: nothing could be found out, or the command line or configuration is wrong";
}

impl Level {
    /// The number the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The level with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|level| level.code() == code)
    }

    /// The graver of two: what is known to be bad outranks what is not known.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.gravity() > self.gravity() { other } else { self }
    }

    fn gravity(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Unknown => 2,
            Self::Critical => 3,
        }
    }
}

impl Ending for Level {
    const HELP: &'static str = CHECK_EXIT_HELP;

    fn code(self) -> u8 {
        Self::code(self)
    }

    fn name(self) -> &'static str {
        Self::name(self)
    }

    fn level(self) -> Level {
        self
    }

    fn failed(_: Exit) -> Self {
        Self::Unknown
    }

    fn worst(self, other: Self) -> Self {
        Self::worst(self, other)
    }
}

impl Ending for Exit {
    const HELP: &'static str = JOB_EXIT_HELP;

    fn code(self) -> u8 {
        Self::code(self)
    }

    fn name(self) -> &'static str {
        Self::name(self)
    }

    fn level(self) -> Level {
        match self {
            Self::Done => Level::Ok,
            Self::Partial | Self::Locked => Level::Warning,
            Self::InvalidMeasurement => Level::Unknown,
            Self::Failed | Self::Usage | Self::Damaged | Self::TargetMissed => Level::Critical,
        }
    }

    fn failed(exit: Exit) -> Self {
        exit
    }

    fn worst(self, other: Self) -> Self {
        Self::worst(self, other)
    }
}

impl Exit {
    /// The number the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The graver of two exits, by what an operator must hear of first.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.gravity() > self.gravity() { other } else { self }
    }

    /// Damage outranks everything; a target missed in an invalid measurement says nothing.
    fn gravity(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::TargetMissed => 1,
            Self::InvalidMeasurement => 2,
            Self::Partial => 3,
            Self::Locked => 4,
            Self::Usage => 5,
            Self::Failed => 6,
            Self::Damaged => 7,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_numbers() {
        let table: Vec<_> = Exit::ALL.iter().map(|exit| (exit.code(), exit.name())).collect();
        let expected = [
            (0, "done"),
            (1, "failed"),
            (2, "usage"),
            (3, "partial"),
            (4, "damaged"),
            (5, "locked"),
            (6, "target_missed"),
            (7, "invalid_measurement"),
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn json_uses_the_same_name_as_the_state() {
        for exit in Exit::ALL {
            assert_eq!(serde_json::to_value(exit).unwrap(), exit.name());
        }
    }

    #[test]
    fn help_lists_every_code_once() {
        let lines: Vec<_> = JOB_EXIT_HELP.lines().collect();
        assert_eq!(lines[0], "Exit codes:");
        for (line, exit) in lines[1..].iter().zip(Exit::ALL) {
            assert_eq!(*line, format!("  {}  {}", exit.code(), exit.meaning()));
        }
        assert_eq!(lines.len(), Exit::ALL.len() + 1);
    }

    #[test]
    fn levels_are_those_of_monitoring_plugins() {
        let table: Vec<_> = Level::ALL.iter().map(|level| (level.code(), level.name())).collect();
        assert_eq!(table, [(0, "ok"), (1, "warning"), (2, "critical"), (3, "unknown")]);
        for &level in Level::ALL {
            assert_eq!(Level::from_code(level.code()), Some(level));
        }
        assert_eq!(Level::from_code(4), None);
        assert_eq!(Level::failed(Exit::Usage).code(), 3);
    }

    #[test]
    fn what_is_known_to_be_bad_outranks_what_is_not_known() {
        assert_eq!(Level::Unknown.worst(Level::Critical), Level::Critical);
        assert_eq!(Level::Warning.worst(Level::Unknown), Level::Unknown);
        assert_eq!(Level::Ok.worst(Level::Warning), Level::Warning);
    }

    #[test]
    fn worst_is_symmetric_and_keeps_damage() {
        for &a in Exit::ALL {
            assert_eq!(Exit::Done.worst(a), a);
            assert_eq!(Exit::Damaged.worst(a), Exit::Damaged);
            for &b in Exit::ALL {
                assert_eq!(a.worst(b), b.worst(a));
            }
        }
        assert_eq!(Exit::TargetMissed.worst(Exit::Partial), Exit::Partial);
    }
}
