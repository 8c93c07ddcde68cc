//! The section `[ping]`: who elsewhere is told that this machine still watches.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{DurationText, Needed, SizeText};
use crate::secret::SecretSource;

/// The section `[ping]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "the section [ping]")]
pub struct Ping {
    /// The URL that is asked for at the end of a run of `reliab alert`; whoever knows it can pretend that all is well.
    pub url: SecretSource,
    /// A file of certificates (PEM) that are trusted beside the machine's.
    pub ca: Option<PathBuf>,
    /// Whether the URL with `/fail` behind it, as Healthchecks has it, is told why there is no ping.
    #[serde(default)]
    pub fail: bool,
    /// No ping is sent where the last result of any check is older than this.
    #[serde(default = "checks_within", with = "Needed::<DurationText>")]
    pub checks_within: Duration,
    /// Nor where a message has waited for longer than this: for no attempt, or with all channels failing.
    #[serde(default = "owed_within", with = "Needed::<DurationText>")]
    pub owed_within: Duration,
    /// Nor where less than this is free on the disk of the state, in bytes.
    #[serde(default = "min_free", with = "Needed::<SizeText>")]
    pub min_free: u64,
}

fn checks_within() -> Duration {
    Duration::from_secs(60 * 60)
}

fn owed_within() -> Duration {
    Duration::from_secs(15 * 60)
}

fn min_free() -> u64 {
    16 << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_url_must_be_there() {
        let ping: Ping = toml::from_str("url = { file = \"ping\" }").unwrap();
        assert_eq!((ping.checks_within, ping.owed_within), (checks_within(), owed_within()));
        assert_eq!((ping.min_free, ping.fail, ping.ca), (min_free(), false, None));
        let text =
            "url = { env = \"PING\" }\nchecks_within = \"26h\"\nowed_within = \"1h\"\nmin_free = \"1GiB\"";
        let ping: Ping = toml::from_str(text).unwrap();
        assert_eq!(ping.checks_within, Duration::from_secs(26 * 3600));
        assert_eq!((ping.owed_within, ping.min_free), (Duration::from_secs(3600), 1 << 30));
    }

    #[test]
    fn a_url_that_is_written_here_is_refused_and_not_shown() {
        let error = toml::from_str::<Ping>("url = \"https://example.org/planted\"").unwrap_err();
        assert!(error.message().contains("a secret is not written here"), "{error}");
        assert!(!error.message().contains("planted"), "{error}");
    }
}
