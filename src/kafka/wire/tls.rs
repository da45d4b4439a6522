//! TLS, by rustls, without C.
//!
//! ```text
//!  TlsSettings ──Tls::new──▶ Tls: provider, roots, client certificate ──connect──▶ a stream, or a reason in words
//!      before the network: every error at once                     once for each connection
//! ```
//!
//! The chain is checked always. The name is checked too, against the host that was connected to, unless
//! `--tls-server-name` says another or `--tls-no-server-name-check` that none matters. Certificates that were revoked are
//! not known: there is no CRL and no OCSP.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod mixed;
mod pem;
mod provider;
mod words;

use std::{fmt, io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, ServerName, UnixTime,
    },
    server::ParsedCertificate,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use self::provider::TlsProvider;
use super::HostPort;
use crate::secret::Source;

/// How TLS is to be spoken, as it was given. The fields are named after the flags.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Certificates of the authorities that are trusted; the system's own if none are given.
    pub ca: Option<Source>,
    /// Our certificate, with those that lead from it to an authority, for brokers that want one.
    pub cert: Option<Source>,
    /// The key of that certificate (PKCS#8, PKCS#1 or SEC1); looked for beside it if none is given.
    pub key: Option<Source>,
    /// The password of an encrypted PKCS#8 key.
    pub key_password: Option<Source>,
    /// The name that a broker's certificate has to be for, in place of the host that was connected to.
    pub server_name: Option<String>,
    /// Takes any certificate of a trusted authority, whoever it was issued for.
    pub no_server_name_check: bool,
    /// Whose cryptography.
    pub provider: TlsProvider,
}

/// TLS as it will be spoken. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    has_certificate: bool,
    warning: Option<String>,
}

impl Tls {
    /// Reads the files and puts it together. Not a byte goes over the network.
    ///
    /// # Errors
    /// All that is wrong, each with the flag that it is about.
    pub fn new(settings: &TlsSettings) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let mut noted = |what: &str, error: &str| errors.push(format!("{what}: {error}"));
        let chosen = provider::choose(settings.provider).map_err(|error| noted("--tls-provider", &error));
        let roots = roots(settings.ca.as_ref()).map_err(|error| noted("--tls-ca", &error));
        let identity = identity(settings).map_err(|(flag, error)| noted(flag, &error));
        let server_name = settings.server_name.clone().map(ServerName::try_from).transpose();
        let server_name = server_name.map_err(|_| noted("--tls-server-name", "neither a name nor an address"));
        if settings.server_name.is_some() && settings.no_server_name_check {
            noted("--tls-server-name", "of no use with --tls-no-server-name-check");
        }
        let (Ok(chosen), Ok(roots), Ok(identity), Ok(server_name), true) =
            (chosen, roots, identity, server_name, errors.is_empty())
        else {
            return Err(errors);
        };
        let has_certificate = identity.is_some();
        let config = config(chosen.provider, roots, identity, settings.no_server_name_check)
            .map_err(|error| vec![format!("--tls-cert: {error}")])?;
        Ok(Self { config: Arc::new(config), server_name, has_certificate, warning: chosen.warning })
    }

    /// What the user should know of the choice of cryptography.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Speaks TLS on `stream`, which leads to `address`.
    pub(super) async fn connect(&self, stream: TcpStream, address: &HostPort) -> Result<TlsStream<TcpStream>, Trouble> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(address.host.clone())
                .map_err(|_| Trouble::Final(format!("{} is no name that a certificate can be for", address.host)))?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, stream).await.map_err(|error| self.trouble(error, address))
    }

    /// What is behind an error of a TLS stream to `address`.
    pub(super) fn trouble(&self, error: io::Error, address: &HostPort) -> Trouble {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(inner) => {
                let name = self.server_name.as_ref().map_or(address.host.as_str().into(), ServerName::to_str);
                Trouble::Final(words::in_words(inner, &name, self.has_certificate))
            }
            None => Trouble::Broken(error),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Why there is no TLS on a connection.
#[derive(Debug)]
pub(super) enum Trouble {
    /// For a reason that somebody has to see to.
    Final(String),
    /// The connection broke.
    Broken(io::Error),
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn config(
    provider: CryptoProvider,
    roots: RootCertStore,
    identity: Option<Identity>,
    no_server_name_check: bool,
) -> Result<ClientConfig, String> {
    let algorithms = provider.signature_verification_algorithms;
    let in_words = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => "the key of --tls-key is not the key of this certificate".to_owned(),
        rustls::Error::General(text) => text,
        error => error.to_string(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if no_server_name_check {
        let verifier = Arc::new(ChainAlone { roots, algorithms });
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots)
    };
    match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).map_err(in_words),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// The trusted authorities: those of `ca`, or the system's.
fn roots(ca: Option<&Source>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(source) = ca else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
            return Err(format!(
                "this system has no certificates of authorities{reasons}: name a PEM file with those to trust; in a container \
                 FROM scratch, copy one into it, such as Debian's /etc/ssl/certs/ca-certificates.crt"
            ));
        }
        return Ok(roots);
    };
    for certificate in certificates(source)? {
        let wrong = |error| format!("{}: a certificate in it cannot be read: {error}", source.name());
        roots.add(certificate).map_err(wrong)?;
    }
    Ok(roots)
}

fn certificates(source: &Source) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = source.read()?;
    let blocks = pem::blocks(text.expose()).map_err(|error| format!("{}: {error}", source.name()))?;
    let found = blocks.into_iter().filter(|block| matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE"));
    let found: Vec<_> = found.map(|block| CertificateDer::from(block.der.to_vec())).collect();
    if found.is_empty() {
        return Err(format!("{} has no certificate in PEM (-----BEGIN CERTIFICATE-----) in it", source.name()));
    }
    Ok(found)
}

/// Our certificate and its key, if there are any. An error comes with its flag.
fn identity(settings: &TlsSettings) -> Result<Option<Identity>, (&'static str, String)> {
    let Some(cert) = &settings.cert else {
        return match &settings.key {
            Some(_) => Err(("--tls-key", "a key without its certificate: name that with --tls-cert".to_owned())),
            None => Ok(None),
        };
    };
    let chain = certificates(cert).map_err(|error| ("--tls-cert", error))?;
    let (flag, source) = settings.key.as_ref().map_or(("--tls-cert", cert), |key| ("--tls-key", key));
    let key = key(source, settings.key_password.as_ref()).map_err(|error| (flag, error))?;
    Ok(Some(Identity { chain, key }))
}

fn key(source: &Source, password: Option<&Source>) -> Result<PrivateKeyDer<'static>, String> {
    let text = source.read()?;
    let name = source.name();
    for block in pem::blocks(text.expose()).map_err(|error| format!("{name}: {error}"))? {
        let der = || block.der.to_vec();
        return Ok(match block.label {
            "PRIVATE KEY" => PrivatePkcs8KeyDer::from(der()).into(),
            "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der()).into(),
            "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der()).into(),
            "ENCRYPTED PRIVATE KEY" => decrypted(&block.der, password).map_err(|error| format!("{name}: {error}"))?,
            _ => continue,
        });
    }
    Err(format!("{name} has no private key in PEM (PKCS#8, PKCS#1 or SEC1) in it: name its file with --tls-key"))
}

fn decrypted(der: &[u8], password: Option<&Source>) -> Result<PrivateKeyDer<'static>, String> {
    let password = password.ok_or(
        "the key is encrypted: give its password with --tls-key-password-file, LONGSHORE_TLS_KEY_PASSWORD or \
         ssl.key.password",
    )?;
    let password = password.read_line()?;
    let info = pkcs8::EncryptedPrivateKeyInfo::try_from(der).map_err(|_| {
        "the key is encrypted in a way that is not read: convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.key \
         -out NEW.key"
    })?;
    let key = info.decrypt(password.expose()).map_err(|_| "the key cannot be decrypted: is its password right?")?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// Checks that a trusted authority issued a certificate, and not for whom.
#[derive(Debug)]
struct ChainAlone {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ChainAlone {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
