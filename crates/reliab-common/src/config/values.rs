//! Sizes, durations and shares in the configuration file: how they are read, shown and described.
//!
//! [`Needed`] and [`Optional`] go into `#[serde(with = "…")]`, from which the schema takes them too.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serializer};

use crate::units::{self, Percent, UnitError};

/// A quantity that is written as text.
pub(super) trait Text {
    /// What the text stands for.
    type Value;
    /// What it is called in the schema.
    const NAME: &'static str;
    /// What it is, for people.
    const ABOUT: &'static str;
    /// The regular expression (ECMA-262) that all texts match.
    const PATTERN: &'static str;

    /// Reads it.
    fn parse(text: &str) -> Result<Self::Value, UnitError>;
    /// The text that is read as this very value.
    fn show(value: &Self::Value) -> String;
}

/// A duration such as `"90s"`.
pub(super) struct DurationText;

/// A size such as `"2GiB"`, in bytes.
pub(super) struct SizeText;

/// A share such as `"80%"`.
pub(super) struct PercentText;

/// A text that must be there.
pub(super) struct Needed<T>(PhantomData<T>);

/// A text that may be left out.
pub(super) struct Optional<T>(PhantomData<T>);

impl Text for DurationText {
    type Value = Duration;
    const NAME: &'static str = "Duration";
    const ABOUT: &'static str = "Numbers with the units ms, s, m or min, h, d and w, such as 90s or 1h30m.";
    const PATTERN: &'static str = r"^\s*([0-9]+\s*(ms|s|m|min|h|d|w)\s*)+$";

    fn parse(text: &str) -> Result<Duration, UnitError> {
        units::parse_duration(text)
    }

    fn show(value: &Duration) -> String {
        let millis = value.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let whole = units.into_iter().find(|(_, length)| millis > 0 && millis.is_multiple_of(*length));
        match whole {
            Some((unit, length)) => format!("{}{unit}", millis / length),
            None if millis == 0 => "0s".into(),
            None => format!("{millis}ms"),
        }
    }
}

impl Text for SizeText {
    type Value = u64;
    const NAME: &'static str = "Size";
    const ABOUT: &'static str = "A number and a unit, such as 500M, 1.5GiB or 10GB.";
    const PATTERN: &'static str = r"^\s*[0-9]+(\.[0-9]+)?\s*([KMGTPEkmgtpe]([Ii]?[Bb])?|[Bb])?\s*$";

    fn parse(text: &str) -> Result<u64, UnitError> {
        units::parse_bytes(text)
    }

    fn show(value: &u64) -> String {
        let names = ["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let power = (value.trailing_zeros() / 10).min(6);
        let power = if *value == 0 { 0 } else { power };
        format!("{}{}", value >> (10 * power), names[power as usize])
    }
}

impl Text for PercentText {
    type Value = Percent;
    const NAME: &'static str = "Percent";
    const ABOUT: &'static str = "A share between 0% and 100%, such as 80%.";
    const PATTERN: &'static str = r"^\s*\+?[0-9.]+([eE][+-]?[0-9]+)?\s*%*\s*$";

    fn parse(text: &str) -> Result<Percent, UnitError> {
        units::parse_percent(text)
    }

    fn show(value: &Percent) -> String {
        value.to_string()
    }
}

impl<T: Text> Needed<T> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T::Value, D::Error> {
        T::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(super) fn serialize<S: Serializer>(value: &T::Value, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&T::show(value))
    }
}

impl<T: Text> Optional<T> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T::Value>, D::Error> {
        Needed::<T>::deserialize(deserializer).map(Some)
    }

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<T::Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_some(&T::show(value)),
            None => serializer.serialize_none(),
        }
    }
}

impl<T: Text> JsonSchema for Needed<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": T::ABOUT, "pattern": T::PATTERN })
    }
}

impl<T: Text> JsonSchema for Optional<T> {
    fn schema_name() -> Cow<'static, str> {
        Needed::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Needed::<T>::json_schema(generator)
    }

    fn schema_id() -> Cow<'static, str> {
        Needed::<T>::schema_id()
    }
}

/// One text or number, or a list of them.
pub(super) struct OneOrMore;

impl OneOrMore {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        let texts = |value: toml::Value| match value {
            toml::Value::String(text) => Ok(text),
            toml::Value::Integer(number) => Ok(number.to_string()),
            _ => Err(D::Error::custom("expected a text or a number, or a list of them")),
        };
        match toml::Value::deserialize(deserializer)? {
            toml::Value::Array(values) => values.into_iter().map(texts).collect(),
            value => texts(value).map(|text| vec![text]),
        }
    }

    pub(super) fn serialize<S: Serializer>(values: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values)
    }
}

impl JsonSchema for OneOrMore {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMore".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer", "array"],
            "items": { "type": ["string", "integer"] },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_shown_as_people_write_them() {
        let duration = |text| DurationText::show(&units::parse_duration(text).unwrap());
        for text in ["0s", "250ms", "90s", "5m", "1h", "26h", "30d"] {
            assert_eq!(duration(text), text);
        }
        assert_eq!((duration("60 min"), duration("1h30m")), ("1h".into(), "90m".into()));
        let size = |bytes| SizeText::show(&bytes);
        assert_eq!(
            (size(0), size(1500), size(16 << 20), size(3 << 29)),
            ("0".into(), "1500".into(), "16MiB".into(), "1536MiB".into())
        );
        assert_eq!(PercentText::show(&units::parse_percent("7").unwrap()), "7%");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(millis in 0..3_000_000_000_000u64, bytes: u64, share in 0.0..100.0f64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(units::parse_duration(&DurationText::show(&duration)), Ok(duration));
            prop_assert_eq!(units::parse_bytes(&SizeText::show(&bytes)), Ok(bytes));
            let share = units::parse_percent(&share.to_string()).unwrap();
            prop_assert_eq!(units::parse_percent(&PercentText::show(&share)), Ok(share));
        }
    }
}
