//! The section `[[service]]`: services whose own metrics are read.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::probe::BasicAuth;
use super::values::{DurationText, Needed, SizeText};
use crate::secret::SecretSource;

/// A service. With `metrics`, its requests, errors and latency are read from its Prometheus endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a service such as [[service]]")]
#[schemars(extend("required" = ["name"]))]
pub struct Service {
    /// The name, in results, rules and on the command line.
    pub name: String,
    /// The URL of its metrics, as Prometheus text or `OpenMetrics`.
    pub metrics: Option<String>,
    /// The counter of requests, such as `http_requests_total{handler="/checkout"}`; without it, the count of `latency`.
    pub requests: Option<String>,
    /// The counter of failed requests; without it, those of `requests` whose label `code`, `status` or `status_code`
    /// begins with 5.
    pub errors: Option<String>,
    /// The histogram or summary of seconds that requests take.
    pub latency: String,
    /// User and password for basic authentication.
    pub basic_auth: Option<BasicAuth>,
    /// A bearer token.
    pub bearer: Option<SecretSource>,
    /// How long a scrape may take.
    #[serde(with = "Needed::<DurationText>")]
    pub timeout: Duration,
    /// More than this many bytes are not read.
    #[serde(with = "Needed::<SizeText>")]
    pub body_limit: u64,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            name: String::new(),
            metrics: None,
            requests: None,
            errors: None,
            latency: "http_request_duration_seconds".into(),
            basic_auth: None,
            bearer: None,
            timeout: Duration::from_secs(10),
            body_limit: 16 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_may_be_a_name_alone() {
        let service: Service = toml::from_str("name = \"checkout\"").unwrap();
        assert_eq!(service, Service { name: "checkout".into(), ..Service::default() });
        assert!(toml::from_str::<Service>("nmae = \"checkout\"").is_err());
    }
}
