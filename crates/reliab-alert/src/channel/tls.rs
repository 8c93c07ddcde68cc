//! Whom TLS trusts: the machine's certificates and those of the configuration.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::{SendError, text};

/// TLS for HTTP clients, with ring.
pub(super) fn config(ca: Option<&Path>) -> Result<ClientConfig, SendError> {
    let mut roots = RootCertStore::empty();
    // A machine without certificates can still reach what needs none, or has its own in the configuration.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        for certificate in certificates(path)? {
            let bad = |error| SendError::passing(format!("cannot use {}: {error}", path.display()));
            roots.add(certificate).map_err(bad)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| SendError::passing(format!("cannot use TLS: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates in a file, which must have one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SendError> {
    let fail = |reason: String| {
        SendError::passing(format!("cannot read the certificates in {}: {reason}", path.display()))
    };
    let bytes = std::fs::read(path).map_err(|error| fail(text::chain(&error)))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(fail("there is none".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(fail(error.to_string())),
    }
}
