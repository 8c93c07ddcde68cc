//! TLS: whom to trust, the handshake, and what its failure means.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use reliab_common::config::probe::PhaseLimits;
use reliab_common::exit::Level;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::Certificate;
use crate::dial::told;
use crate::finding::{Finding, excerpt};
use crate::socket::Stream;
use crate::trace::{Phase, Trace};

/// How TLS is spoken with a target.
pub(crate) struct TlsSettings {
    base: ClientConfig,
    /// `None`: chain and name are not looked at.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    server_name: Option<String>,
}

/// Certificates and a key as files.
pub(crate) struct ClientFiles<'a> {
    /// The chain.
    pub cert: &'a Path,
    /// The key.
    pub key: &'a Path,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A verifier that trusts the certificates in a file, or those of the system.
pub(crate) fn verifier(ca: Option<&Path>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| format!("cannot trust {}: {error}", path.display()))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this machine trusts no certificates: install ca-certificates, or set `ca`".into());
        }
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    builder.build().map_err(|error| error.to_string())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("cannot read certificates from {}: {error}", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let found = found.map_err(failed)?;
    if found.is_empty() { Err(format!("no certificate in {}", path.display())) } else { Ok(found) }
}

impl TlsSettings {
    /// Settings with this verifier and certificate of our own.
    pub(crate) fn new(
        verifier: Option<Arc<WebPkiServerVerifier>>,
        client: Option<ClientFiles<'_>>,
        server_name: Option<String>,
    ) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Witness::new(None)));
        let mut base = if let Some(files) = client {
            let failed = |error| format!("cannot read a private key from {}: {error}", files.key.display());
            let key = PrivateKeyDer::from_pem_file(files.key).map_err(failed)?;
            let unusable = |error| format!("cannot use {}: {error}", files.cert.display());
            builder.with_client_auth_cert(certificates(files.cert)?, key).map_err(unusable)?
        } else {
            builder.with_no_client_auth()
        };
        // Each handshake is to be measured and its certificate seen.
        base.resumption = Resumption::disabled();
        Ok(Self { base, verifier, server_name })
    }

    /// Whether the chain and the name of a certificate must hold.
    pub(crate) fn is_verified(&self) -> bool {
        self.verifier.is_some()
    }

    /// Makes a handshake and notes the certificate, whether or not it is accepted.
    pub(crate) async fn handshake<S: Stream>(
        &self,
        stream: S,
        host: &str,
        protocols: &[&[u8]],
        limits: &PhaseLimits,
        trace: &mut Trace,
    ) -> Result<TlsStream<S>, Finding> {
        let host = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Finding::critical("a host name", excerpt(host)).lasting())?;
        let witness = Arc::new(Witness::new(self.verifier.clone()));
        let mut config = self.base.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.dangerous().set_certificate_verifier(Arc::clone(&witness) as _);
        trace.begin(Phase::Tls);
        let work = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let result = Trace::limited(Phase::Tls, Phase::Tls.limit(limits), work).await;
        let chain = witness.seen.get().map(Vec::as_slice).unwrap_or_default();
        let leaf = chain.first().and_then(Certificate::parse);
        let refused = |error: io::Error| explain(&error, host, chain.len(), leaf.as_ref());
        let result = result?.map_err(refused);
        if let Some(leaf) = leaf {
            note(trace, leaf);
        }
        let stream = result?;
        trace.end();
        let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
        trace.seen.tls = version.map(|version| version.replace('_', ".").replace("TLSv", "TLS "));
        Ok(stream)
    }
}

/// Keeps the certificate that ends first.
fn note(trace: &mut Trace, leaf: Certificate) {
    let seen = &mut trace.seen.certificate;
    if seen.as_ref().is_none_or(|seen| leaf.not_after < seen.not_after) {
        *seen = Some(leaf);
    }
}

/// Verifies as its inner verifier does, and keeps the chain that was shown.
#[derive(Debug)]
struct Witness {
    verifier: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: OnceLock<Vec<CertificateDer<'static>>>,
}

impl Witness {
    fn new(verifier: Option<Arc<WebPkiServerVerifier>>) -> Self {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Self { verifier, algorithms, seen: OnceLock::new() }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        self.seen.get_or_init(|| chain.map(|certificate| certificate.clone().into_owned()).collect());
        match &self.verifier {
            Some(verifier) => verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a failed handshake says about the server.
fn explain(error: &io::Error, host: &str, shown: usize, leaf: Option<&Certificate>) -> Finding {
    let Some(reason) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        let closed = error.kind() == io::ErrorKind::UnexpectedEof;
        let got = if closed { "a closed connection".to_owned() } else { told(error) };
        return Finding::critical("a TLS handshake", got);
    };
    match reason {
        Error::InvalidCertificate(reason) => refused(reason, host, shown, leaf).lasting(),
        Error::AlertReceived(alert) => Finding::critical("a TLS handshake", format!("the alert {alert:?}")),
        Error::InvalidMessage(_) => Finding::critical("a TLS handshake", "what is not TLS"),
        other => Finding::critical("a TLS handshake", excerpt(&other.to_string())),
    }
}

fn refused(reason: &CertificateError, host: &str, shown: usize, leaf: Option<&Certificate>) -> Finding {
    let dates = leaf.and_then(|leaf| leaf.judge(None, chrono::Utc::now()));
    match (reason, leaf) {
        (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }, Some(leaf)) => {
            let names = if leaf.names.is_empty() { "no name".into() } else { leaf.names.join(", ") };
            Finding::critical(format!("a certificate for {}", excerpt(host)), format!("one for {names}"))
        }
        (CertificateError::UnknownIssuer, Some(leaf)) => {
            Finding::critical("a certificate from a trusted issuer", untrusted(leaf, shown))
        }
        (CertificateError::Other(_), Some(leaf)) if leaf.self_signed => {
            Finding::critical("a certificate from a trusted issuer", "one that is its own issuer")
        }
        (
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
            Some(_),
        ) => dates.filter(|finding| finding.level == Level::Critical).unwrap_or_else(|| {
            Finding::critical("a valid chain", "one with a certificate whose dates do not hold")
        }),
        (other, _) => Finding::critical("a valid certificate", excerpt(&other.to_string())),
    }
}

fn untrusted(leaf: &Certificate, shown: usize) -> String {
    if leaf.self_signed {
        "one that is its own issuer (self-signed)".into()
    } else if shown == 1 {
        format!("one from `{}` alone: the server sent no intermediate certificate", leaf.issuer)
    } else {
        format!("one from `{}`, which leads to none that is trusted here", leaf.issuer)
    }
}
