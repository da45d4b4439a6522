//! TLS with a broker of ours, by each provider: what is right works, and what is wrong is said, and not tried again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use kafka_protocol::messages::ApiVersionsRequest;
use rustls::{
    ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    kafka::wire::{
        Cluster, Security, Tls, TlsProvider, TlsSettings, WireError,
        scripted::{Asked, cluster, listening},
    },
    secret::{Secret, Source},
};

const PROVIDERS: [TlsProvider; 2] = [TlsProvider::Auto, TlsProvider::Rustcrypto];

fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn file(name: &str) -> Option<Source> {
    Some(Source::File(path(name)))
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path(name)).expect("a certificate")
}

/// A broker with the certificate and key of this name.
struct Broker {
    name: &'static str,
    wants_certificate: bool,
    version: &'static SupportedProtocolVersion,
}

impl Broker {
    fn named(name: &'static str) -> Self {
        Self { name, wants_certificate: false, version: &TLS13 }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls_rustcrypto::provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[self.version]).expect("a version that it has");
        let builder = if self.wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(certificate("ca.pem")).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(path(&format!("{}.key", self.name))).expect("a key");
        let chain = vec![certificate(&format!("{}.pem", self.name))];
        Arc::new(builder.with_single_cert(chain, key).expect("they belong together")).into()
    }

    /// Asks it for a topic by TLS of these settings.
    async fn asked_by(&self, settings: TlsSettings) -> Result<(), WireError> {
        let cluster = listening("127.0.0.1", Some(self.acceptor()), Asked::quiet).await;
        secured(&cluster, settings).topic("t").await.map(|view| assert!(view.is_some()))
    }

    #[track_caller]
    fn refused(outcome: Result<(), WireError>, reason: &str) {
        let error = outcome.expect_err("refused");
        let is_tls = matches!(error, WireError::Tls { .. });
        assert!(is_tls && !error.may_pass() && error.to_string().contains(reason), "{error}");
    }
}

fn secured(cluster: &Cluster, settings: TlsSettings) -> Cluster {
    let tls = Tls::new(&settings).expect("settings that are right");
    cluster.with_security(Security { tls: Some(tls), sasl: None })
}

fn trusting(provider: TlsProvider) -> TlsSettings {
    TlsSettings { ca: file("ca.pem"), provider, ..TlsSettings::default() }
}

fn has_graviola() -> bool {
    Tls::new(&trusting(TlsProvider::Graviola)).is_ok()
}

#[tokio::test]
async fn a_trusted_broker_is_spoken_to() {
    for provider in PROVIDERS {
        for version in [&TLS12, &TLS13] {
            for name in ["server", "server-ec", "server-p384", "server-ed25519"] {
                // Graviola's suites of TLS 1.2 know no Ed25519.
                if name == "server-ed25519" && version.version == ProtocolVersion::TLSv1_2 {
                    continue;
                }
                let broker = Broker { version, ..Broker::named(name) };
                broker
                    .asked_by(trusting(provider))
                    .await
                    .unwrap_or_else(|error| panic!("{provider:?} {name}: {error}"));
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_wrong_is_said_and_not_tried_again() {
    for provider in PROVIDERS {
        let wrong_ca = TlsSettings { ca: file("other-ca.pem"), ..trusting(provider) };
        let unchecked = TlsSettings { no_server_name_check: true, ..wrong_ca.clone() };
        for settings in [wrong_ca, unchecked] {
            Broker::refused(Broker::named("server").asked_by(settings).await, "unknown authority: give");
        }
        let expired = Broker::named("expired");
        let unchecked = TlsSettings { no_server_name_check: true, ..trusting(provider) };
        for settings in [trusting(provider), unchecked] {
            Broker::refused(expired.asked_by(settings).await, "expired on 2021-01-01 00:00:00 UTC");
        }
        let elsewhere = Broker::named("elsewhere").asked_by(trusting(provider)).await;
        Broker::refused(elsewhere, "not for 127.0.0.1, but for elsewhere.example");
    }
}

#[tokio::test]
async fn a_name_is_not_checked_or_is_another_by_wish_only() {
    let broker = Broker::named("elsewhere");
    for provider in PROVIDERS {
        let another = TlsSettings { server_name: Some("elsewhere.example".to_owned()), ..trusting(provider) };
        broker.asked_by(another).await.unwrap();
        broker.asked_by(TlsSettings { no_server_name_check: true, ..trusting(provider) }).await.unwrap();
        let wrong = TlsSettings { server_name: Some("a.example".to_owned()), ..trusting(provider) };
        Broker::refused(
            Broker::named("server").asked_by(wrong).await,
            "not for a.example, but for localhost, 127.0.0.1",
        );
    }
}

#[tokio::test]
async fn a_broker_that_wants_our_certificate_gets_it() {
    let password = Some(Source::Inline(Secret::new("open sesame")));
    for version in [&TLS12, &TLS13] {
        let broker = Broker { wants_certificate: true, version, ..Broker::named("server") };
        for provider in PROVIDERS {
            for (cert, key) in [
                ("client.pem", "client.key"),
                ("client.pem", "client-pkcs1.key"),
                ("client.pem", "client-encrypted.key"),
                ("client-ec.pem", "client-ec.key"),
                ("client-p384.pem", "client-p384.key"),
                ("client-ed25519.pem", "client-ed25519.key"),
            ] {
                let (cert, key, key_password) = (file(cert), file(key), password.clone());
                broker.asked_by(TlsSettings { cert, key, key_password, ..trusting(provider) }).await.unwrap();
            }
            let none = broker.asked_by(trusting(provider)).await;
            Broker::refused(none, "it wants a client certificate");
            let (cert, key) = (file("other-client.pem"), file("other-client.key"));
            let stranger = broker.asked_by(TlsSettings { cert, key, ..trusting(provider) }).await;
            Broker::refused(stranger, "client certificate");
        }
    }
}

#[test]
fn keys_that_cannot_be_used_are_said_before_the_network() {
    let check = |key: &str, password: Option<&str>, reason: &str| {
        let key_password = password.map(|text| Source::Inline(Secret::new(text)));
        let settings =
            TlsSettings { cert: file("client.pem"), key: file(key), key_password, ..trusting(TlsProvider::Auto) };
        let errors = Tls::new(&settings).expect_err("refused");
        assert!(errors.len() == 1 && errors[0].contains(reason), "{errors:?}");
    };
    check("client-encrypted.key", None, "--tls-key-password-file");
    check("client-encrypted.key", Some("open barley"), "is its password right?");
    check("ca.pem", None, "has no private key in PEM");
    check("missing.key", None, "No such file");
    if has_graviola() {
        for key in ["server.key", "client-ec.key", "client-p384.key", "client-ed25519.key"] {
            check(key, None, "is not the key of this certificate");
        }
        check("weak.key", None, "RSA of 2048 to 8192 bits, P-256, P-384, Ed25519");
    }
}

#[tokio::test]
async fn a_port_without_tls_and_one_with_it_are_told_from_each_other() {
    let plain = cluster(Asked::quiet).await;
    let error = secured(&plain, trusting(TlsProvider::Auto)).topic("t").await.unwrap_err();
    Broker::refused(Err(error), "on this port without TLS");

    let tls = listening("127.0.0.1", Some(Broker::named("server").acceptor()), Asked::quiet).await;
    let error = tls.topic("t").await.unwrap_err();
    assert!(!error.may_pass() && error.to_string().contains("this port speaks TLS, so say --security tls"), "{error}");
}

#[tokio::test]
async fn a_connection_with_tls_is_used_again() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let script = move |asked: &Asked| {
        count.fetch_add(usize::from(asked.is::<ApiVersionsRequest>()), Ordering::Relaxed);
        asked.quiet()
    };
    let cluster = listening("127.0.0.1", Some(Broker::named("server").acceptor()), script).await;
    let cluster = secured(&cluster, trusting(TlsProvider::Auto));
    assert!(!cluster.is_plain() && !cluster.apart().is_plain());
    for _ in 0..4 {
        assert!(cluster.topic("t").await.unwrap().is_some());
    }
    // New session tickets of TLS 1.3 lie on it unread, which is no reason to leave it.
    assert_eq!(
        opened.load(Ordering::Relaxed),
        2,
        "one to the bootstrap broker, and one to broker 1 under its own name"
    );
}

#[tokio::test]
async fn a_broker_with_an_ipv6_address_is_spoken_to() {
    let plain = listening("::1", None, Asked::quiet).await;
    assert_eq!(plain.bootstrap()[0].to_string().parse(), Ok(plain.bootstrap()[0].clone()));
    // Twice, so that the address is once the one that was named, and once the one that the broker tells.
    for _ in 0..2 {
        assert!(plain.topic("t").await.unwrap().is_some());
    }
    let tls = listening("::1", Some(Broker::named("server").acceptor()), Asked::quiet).await;
    let tls = secured(&tls, trusting(TlsProvider::Auto));
    for _ in 0..2 {
        assert!(tls.topic("t").await.unwrap().is_some());
    }
}
