//! The exit codes of jobs, written down once.

use std::process::ExitCode;

use serde::Serialize;

/// Declares the codes, and from the same lines their names, their meanings and the text for `--help`.
macro_rules! job_exits {
    ($($variant:ident = $code:literal, $name:literal, $meaning:literal;)+) => {
        /// How a job ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[repr(u8)]
        pub enum Exit {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant = $code,)+
        }

        impl Exit {
            /// Every exit code, in numeric order.
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

        /// The exit codes of jobs as a section of `--help`.
        pub const JOB_EXIT_HELP: &str =
            concat!("Exit codes:", $("\n  ", $code, "  ", $meaning),+);
    };
}

job_exits! {
    Done = 0, "done", "done";
    Failed = 1, "failed", "failed";
    Usage = 2, "usage", "usage or configuration error";
    Partial = 3, "partial", "done in part: some source was unreadable, the rest is safe";
    Damaged = 4, "damaged", "data missing or damaged";
    Locked = 5, "locked", "another run holds the lock";
    TargetMissed = 6, "target_missed", "a target was missed";
    InvalidMeasurement = 7, "invalid_measurement", "the measurement is not valid";
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
