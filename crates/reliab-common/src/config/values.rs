//! Sizes and durations in the configuration file.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::units;

/// A size such as `"2GiB"`, in bytes.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::parse_bytes(&text).map(Some).map_err(D::Error::custom)
}

/// A duration such as `"90s"`, for a key that may be left out.
pub(super) fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::parse_duration(&text).map(Some).map_err(D::Error::custom)
}

/// A duration such as `"90s"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::parse_duration(&text).map_err(D::Error::custom)
}

/// A size such as `"2GiB"`, in bytes.
pub(super) fn required_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::parse_bytes(&text).map_err(D::Error::custom)
}
