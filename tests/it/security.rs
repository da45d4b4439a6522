//! TLS and SASL as far as a broker that speaks neither can show them; `tests/kafka/secure` shows the rest.

use crate::harness::{IN, Kafka, Longshore, REPLIES, plain};

/// A command line that lacks nothing but a broker that is there.
fn elsewhere(flags: &str) -> Longshore {
    Longshore::new(&format!("run -b 127.0.0.1:1 -g workers -t orders {flags}"))
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_no_secret() {
    let end = elsewhere("--security tls --tls-ca missing.pem --tls-key ca.pem --sasl plain --workers 0")
        .env("LONGSHORE_SASL_PASSWORD", "hunter2")
        .env("LONGSHORE_TLS_PROVIDER", "ring")
        .end()
        .exits(64)
        .says("longshore: 5 errors in the configuration")
        .says("LONGSHORE_TLS_PROVIDER 'ring': none of auto, graviola, rustcrypto")
        .says("--workers must be 1 to 10000, not 0")
        .says("--tls-ca: missing.pem: No such file")
        .says("--tls-key: a key without its certificate")
        .says("--sasl-user is required with SASL PLAIN");
    assert!(!end.log.contains("hunter2"), "{}", end.log);
}

#[test]
fn a_secret_in_the_clear_is_refused_unless_it_is_allowed() {
    let plain =
        || elsewhere("--sasl plain --sasl-user u --startup-timeout 1s").env("LONGSHORE_SASL_PASSWORD", "hunter2");
    plain().end().exits(64).says("shows the secret to anybody on the way");
    plain().arg("--allow-secrets-in-plaintext").end().exits(69).says("no answer from 127.0.0.1:1");
}

#[test]
fn a_system_without_authorities_is_told_what_to_do() {
    // An empty file in the place of the system's, as in a container FROM scratch.
    let end = elsewhere("--security tls").file("none.pem", "").env("SSL_CERT_FILE", "none.pem").end();
    end.exits(64).says("--tls-ca: this system has no certificates of authorities").says("ca-certificates.crt");
}

#[test]
fn the_properties_of_a_java_client_come_last() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(1));
    let properties = format!(
        "bootstrap.servers={}\ngroup.id = workers\nsecurity.protocol=PLAINTEXT\nssl.truststore.location=/x\nclient.id=c\n",
        kafka.address()
    );
    let longshore = |flags: &str| {
        let flags = format!("run -t {IN} --reply-topic {REPLIES} --until-end --task-time 0 {flags}");
        Longshore::new(&flags).file("client.properties", &properties)
    };
    let end = longshore("--kafka-config client.properties").end().exits(0);
    let end = end.says("client.properties: not used here: client.id");
    end.says("client.properties: without effect with this security.protocol: ssl.truststore.location");
    assert_eq!(kafka.kept(0), Some(1));
    let other = longshore("-g others").env("LONGSHORE_KAFKA_CONFIG", "client.properties").end();
    other.exits(0);
    assert_eq!(kafka.committed("others", IN, 0).map(|committed| committed.offset.0), Some(1));
}

#[test]
fn what_is_wrong_in_properties_is_said_with_all_the_rest() {
    let properties =
        "security.protocol=SASL_SSL\nsasl.mechanism=GSSAPI\nssl.cipher.suites=x\nsasl.jaas.config=hunter2\n";
    let end = elsewhere("--workers 0 --kafka-config a.properties").file("a.properties", properties).end().exits(64);
    let end = end.says("a.properties: sasl.mechanism GSSAPI").says("a.properties: ssl.cipher.suites is not supported");
    let end = end.says("--workers must be 1 to 10000");
    assert!(!end.log.contains("hunter2"), "{}", end.log);
    elsewhere("--kafka-config missing.properties")
        .end()
        .exits(64)
        .says("--kafka-config: missing.properties: No such file");
}

#[test]
fn a_broker_without_tls_is_told_from_one_that_is_not_there() {
    let kafka = Kafka::start(1);
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/ca.pem");
    let end = kafka.longshore(&format!("--security tls --tls-ca {ca}")).end();
    end.exits(69).says("speaks Kafka's protocol on this port without TLS");
}
