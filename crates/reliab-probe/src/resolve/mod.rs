//! From the configuration to targets.

mod endpoint;
mod expectation;
mod probe;
mod relevance;
mod service;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use reliab_common::config::Probe;
use reliab_common::failure::UsageError;
use reliab_common::paths::Env;
use rustls::client::WebPkiServerVerifier;

use crate::target::Target;
use crate::tls::{ClientFiles, TlsSettings, verifier};

pub(crate) use endpoint::probe_of;
pub(crate) use service::scrape;

/// A name may not be longer than this.
const NAME: usize = 200;

/// Why a target cannot be made.
pub(crate) enum Trouble {
    /// The configuration is wrong.
    Usage(String),
    /// The configuration is right, but a file or variable that it names cannot be read: the target is UNKNOWN, and
    /// others are asked all the same.
    Unready(String),
}

/// Makes targets; those that trust the same share it.
pub(crate) struct Resolver<'a> {
    env: &'a Env,
    verifiers: HashMap<Option<PathBuf>, Result<Arc<WebPkiServerVerifier>, String>>,
    settings: BTreeMap<TlsKey, Result<Arc<TlsSettings>, String>>,
}

/// What TLS settings depend on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TlsKey {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    verify: bool,
}

impl<'a> Resolver<'a> {
    /// A resolver in this environment.
    pub(crate) fn new(env: &'a Env) -> Self {
        Self { env, verifiers: HashMap::new(), settings: BTreeMap::new() }
    }

    /// The target of a probe; an error names the probe.
    pub(crate) fn target(&mut self, probe: &Probe) -> Result<Target, UsageError> {
        let wrong = |problem: String| UsageError(format!("probe {}: {problem}", probe.name));
        check_name(&probe.name).map_err(wrong)?;
        probe::target(self, probe).map_err(wrong)
    }

    fn tls(&mut self, probe: &Probe) -> Result<Arc<TlsSettings>, String> {
        let key = TlsKey {
            ca: probe.ca.clone(),
            cert: probe.client_cert.clone(),
            key: probe.client_key.clone(),
            server_name: probe.server_name.clone(),
            verify: probe.verify,
        };
        self.shared(key)
    }

    /// The settings for others than the target of a probe, to whom redirects may lead.
    fn tls_elsewhere(&mut self, probe: &Probe) -> Result<Arc<TlsSettings>, String> {
        let (ca, verify) = (probe.ca.clone(), probe.verify);
        self.shared(TlsKey { ca, cert: None, key: None, server_name: None, verify })
    }

    fn shared(&mut self, key: TlsKey) -> Result<Arc<TlsSettings>, String> {
        if let Some(made) = self.settings.get(&key) {
            return made.clone();
        }
        let made = self.make(&key);
        self.settings.insert(key, made.clone());
        made
    }

    fn make(&mut self, key: &TlsKey) -> Result<Arc<TlsSettings>, String> {
        let verifier = if key.verify {
            let made = self.verifiers.entry(key.ca.clone()).or_insert_with(|| verifier(key.ca.as_deref()));
            Some(made.clone()?)
        } else {
            None
        };
        let files = key.cert.as_deref().zip(key.key.as_deref());
        let client = files.map(|(cert, key)| ClientFiles { cert, key });
        TlsSettings::new(verifier, client, key.server_name.clone()).map(Arc::new)
    }
}

/// A name is shown, stored and matched by rules.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it needs a `name`".into());
    }
    let is_odd = name.len() > NAME || name.chars().any(char::is_control);
    if is_odd { Err(format!("a name has at most {NAME} bytes and no control characters")) } else { Ok(()) }
}
