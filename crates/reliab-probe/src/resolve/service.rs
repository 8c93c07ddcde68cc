//! The scrape of a service.

use hyper::header::{ACCEPT, HeaderValue};
use reliab_common::config::{Probe, Service};
use reliab_common::failure::UsageError;

use super::Resolver;
use crate::metrics::Selector;
use crate::metrics::service::ACCEPT as FORMATS;
pub(crate) use crate::metrics::service::Wanted;
use crate::target::{Kind, Target};

/// The target of a service's metrics and what is read there; `None` if it has none.
pub(crate) fn scrape(
    resolver: &mut Resolver<'_>,
    service: &Service,
) -> Result<Option<(Target, Wanted)>, UsageError> {
    let wrong = |problem: String| UsageError(format!("service {}: {problem}", service.name));
    super::check_name(&service.name).map_err(wrong)?;
    let Some(url) = &service.metrics else { return Ok(None) };
    let selector = |text: &str| Selector::parse(text).map_err(|error| wrong(error.to_string()));
    let optional = |text: &Option<String>| text.as_deref().map(selector).transpose();
    let wanted = Wanted {
        requests: optional(&service.requests)?,
        errors: optional(&service.errors)?,
        latency: selector(&service.latency)?,
    };
    let probe = Probe {
        name: service.name.clone(),
        http: Some(url.clone()),
        basic_auth: service.basic_auth.clone(),
        bearer: service.bearer.clone(),
        timeout: service.timeout,
        body_limit: service.body_limit,
        ..Probe::default()
    };
    let mut target = super::probe::target(resolver, &probe).map_err(wrong)?;
    if let Kind::Http(http) = &mut target.kind {
        http.headers.insert(ACCEPT, HeaderValue::from_static(FORMATS));
        http.keep_body = true;
    }
    Ok(Some((target, wanted)))
}
