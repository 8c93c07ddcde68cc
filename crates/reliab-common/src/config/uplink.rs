//! The section `[uplink]`: how a run tells that its own connection is down.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The section `[uplink]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "the section [uplink]")]
pub struct Uplink {
    /// URLs, or `HOST:PORT` for a TCP connection, of what others keep up. They are asked when every probe of a run
    /// fails, those of this machine and those that are UNKNOWN apart; if they all fail too, the results are UNKNOWN.
    pub references: Vec<String>,
}
