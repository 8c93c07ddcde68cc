//! What a certificate says, and whether its renewal is late.

use chrono::{DateTime, SecondsFormat, Utc};
use reliab_common::config::probe::DaysLimit;
use reliab_common::exit::Level;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::finding::{Finding, excerpt};

/// The usual moment of renewal is at a third of the lifetime; under this share it is late.
const LATE_SHARE: f64 = 0.3;
/// More names than this are not kept.
const NAMES: usize = 20;
const DAY: f64 = 86_400.0;

/// A server's certificate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Certificate {
    /// The common name, else the first name it is for.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The names it is for.
    pub names: Vec<String>,
    /// From when on it is valid.
    pub not_before: DateTime<Utc>,
    /// Until when it is valid.
    pub not_after: DateTime<Utc>,
    /// Whether it names itself as its issuer.
    pub self_signed: bool,
}

impl Certificate {
    /// Reads a certificate; `None` if it is none.
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = names(&parsed);
        let time = |time: x509_parser::time::ASN1Time| DateTime::from_timestamp(time.timestamp(), 0);
        let common = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Some(Self {
            subject: common.map(excerpt).or_else(|| names.first().cloned()).unwrap_or_default(),
            issuer: issuer(&parsed),
            names,
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
            self_signed: parsed.subject() == parsed.issuer(),
        })
    }

    /// Days left, negative if it has expired.
    pub(crate) fn days_left(&self, now: DateTime<Utc>) -> f64 {
        seconds(self.not_after - now) / DAY
    }

    /// What is wrong with its dates.
    pub(crate) fn judge(&self, limit: Option<DaysLimit>, now: DateTime<Utc>) -> Option<Finding> {
        let days = self.days_left(now);
        let until = self.not_after.to_rfc3339_opts(SecondsFormat::Secs, true);
        if days < 0.0 {
            let got = format!("one that expired {} ago ({until})", counted(-days));
            return Some(Finding::critical("a valid certificate", got).lasting());
        }
        if now < self.not_before {
            let from = self.not_before.to_rfc3339_opts(SecondsFormat::Secs, true);
            return Some(
                Finding::critical("a valid certificate", format!("one valid from {from}")).lasting(),
            );
        }
        let (level, expected) = self.too_few(limit, days)?;
        let got = format!("{} ({until})", counted(days));
        Some(Finding { level, ..Finding::critical(expected, got).lasting() })
    }

    fn too_few(&self, limit: Option<DaysLimit>, days: f64) -> Option<(Level, String)> {
        let Some(limit) = limit else {
            let due = seconds(self.not_after - self.not_before) / DAY * LATE_SHARE;
            let expected = format!("a certificate renewed before {} are left", counted(due));
            return (days < due).then_some((Level::Warning, expected));
        };
        let under = |limit: Option<u32>| limit.filter(|&limit| days < f64::from(limit));
        let found = under(limit.critical).map(|limit| (Level::Critical, limit));
        let (level, limit) = found.or_else(|| under(limit.warn).map(|limit| (Level::Warning, limit)))?;
        Some((level, format!("a certificate valid for {limit} days")))
    }
}

/// Days as people say them; hours where it is few.
fn counted(days: f64) -> String {
    let hours = days * 24.0;
    if hours < 48.0 { format!("{hours:.0} hours") } else { format!("{days:.0} days") }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of centuries are exact in an f64")]
fn seconds(span: chrono::TimeDelta) -> f64 {
    span.num_seconds() as f64
}

fn issuer(parsed: &X509Certificate<'_>) -> String {
    let common = parsed.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
    common.map_or_else(|| excerpt(&parsed.issuer().to_string()), excerpt)
}

fn names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(excerpt(name)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).take(NAMES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn check(lifetime: i64, left: TimeDelta, limit: Option<DaysLimit>) -> Option<(Level, String)> {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let not_after = now + left;
        let certificate = Certificate {
            subject: "a.test".into(),
            issuer: "CA".into(),
            names: vec![],
            not_before: not_after - TimeDelta::days(lifetime),
            not_after,
            self_signed: false,
        };
        certificate.judge(limit, now).map(|finding| (finding.level, finding.text()))
    }

    #[test]
    fn renewal_is_late_in_relation_to_the_lifetime() {
        assert_eq!(check(90, TimeDelta::days(30), None), None);
        assert_eq!(check(90, TimeDelta::days(28), None), None);
        let (level, text) = check(90, TimeDelta::days(26), None).unwrap();
        assert_eq!(level, Level::Warning);
        assert_eq!(
            text,
            "expected a certificate renewed before 27 days are left, got 26 days (2027-02-10T08:00:00Z)"
        );
        assert_eq!(check(6, TimeDelta::hours(47), None), None);
        assert_eq!(check(6, TimeDelta::hours(40), None).unwrap().0, Level::Warning);
        assert_eq!(check(3650, TimeDelta::days(1000), None).unwrap().0, Level::Warning);
    }

    #[test]
    fn configured_days_take_its_place() {
        let limit = Some(DaysLimit { warn: Some(20), critical: Some(7) });
        assert_eq!(check(3650, TimeDelta::days(21), limit), None);
        assert_eq!(check(90, TimeDelta::days(19), limit).unwrap().0, Level::Warning);
        assert_eq!(check(90, TimeDelta::days(6), limit).unwrap().0, Level::Critical);
    }

    #[test]
    fn dates_that_do_not_hold_are_critical_whatever_is_configured() {
        let none = Some(DaysLimit::default());
        let (level, text) = check(90, TimeDelta::days(-3), none).unwrap();
        assert_eq!(level, Level::Critical);
        assert_eq!(
            text,
            "expected a valid certificate, got one that expired 3 days ago (2027-01-12T08:00:00Z)"
        );
        assert_eq!(check(90, TimeDelta::days(100), none).unwrap().0, Level::Critical);
    }
}
