//! SASL with a scripted broker: what is sent, what is believed, and what is told.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use kafka_protocol::{
    messages::{
        MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    },
    protocol::StrBytes,
};
use rsasl::mechanisms::scram::tools::{compute_signatures, derive_keys};
use sha2::{Digest, Sha256, digest::Output};

use crate::{
    kafka::wire::{
        Cluster, Mechanism, Sasl, Security, WireError,
        scripted::{Asked, Reply, cluster},
    },
    secret::{Secret, Source},
};

/// What the broker says to each message of an exchange: bytes, or an error code.
type Say = Box<dyn FnMut(&[u8]) -> Result<Vec<u8>, i16> + Send>;

/// A broker that answers SaslAuthenticate by `say`, and lets those in with whom it comes to an end.
async fn broker(lifetime_ms: i64, mut say: Say) -> Cluster {
    cluster(move |asked: &Asked| {
        if asked.is::<SaslHandshakeRequest>() {
            return asked.reply::<SaslHandshakeRequest>(&SaslHandshakeResponse::default());
        }
        if !asked.is::<SaslAuthenticateRequest>() {
            return asked.quiet();
        }
        let response = SaslAuthenticateResponse::default().with_session_lifetime_ms(lifetime_ms);
        let response = match say(&asked.body::<SaslAuthenticateRequest>().auth_bytes) {
            Ok(bytes) => response.with_auth_bytes(Bytes::from(bytes)),
            Err(code) => response.with_error_code(code).with_error_message(Some(StrBytes::from_static_str("go away"))),
        };
        asked.reply::<SaslAuthenticateRequest>(&response)
    })
    .await
}

fn password(mechanism: Mechanism) -> Sasl {
    Sasl::password(mechanism, "alice", Source::Inline(Secret::new("pencil")))
}

async fn asked_by(cluster: &Cluster, sasl: Sasl) -> Result<(), WireError> {
    let cluster = cluster.with_security(Security { tls: None, sasl: Some(sasl) });
    cluster.topic("t").await.map(|view| assert!(view.is_some()))
}

#[track_caller]
fn refused(outcome: Result<(), WireError>, reason: &str) {
    let error = outcome.expect_err("refused");
    let is_ours = matches!(error, WireError::NotLetIn { .. });
    assert!(is_ours && !error.may_pass() && error.to_string().contains(reason), "{error}");
    assert!(!format!("{error:?}").contains("pencil"));
}

#[tokio::test]
async fn plain_sends_user_and_password() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let say = move |said: &[u8]| {
        ears.lock().unwrap().push(said.to_vec());
        Ok(Vec::new())
    };
    asked_by(&broker(0, Box::new(say)).await, password(Mechanism::Plain)).await.unwrap();
    assert_eq!(*heard.lock().unwrap(), [b"\0alice\0pencil"]);
    refused(
        asked_by(&broker(0, Box::new(|_| Err(58))).await, password(Mechanism::Plain)).await,
        "(58): go away (are user",
    );
}

#[tokio::test]
async fn a_token_is_read_again_for_each_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "first\n").unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let say = move |said: &[u8]| {
        ears.lock().unwrap().push(String::from_utf8(said.to_vec()).unwrap());
        Ok(Vec::new())
    };
    // Each connection is good for a millisecond, so that no call finds one that it may use.
    let sasl = Sasl::token(Source::File(path.clone()));
    let cluster = broker(1, Box::new(say)).await.with_security(Security { tls: None, sasl: Some(sasl) });
    for token in ["first", "second"] {
        fs::write(&path, token).unwrap();
        cluster.apart().topic("t").await.unwrap();
    }
    let expected = ["n,,\x01auth=Bearer first\x01\x01", "n,,\x01auth=Bearer second\x01\x01"];
    let mut heard = heard.lock().unwrap().clone();
    heard.dedup();
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_told() {
    let say = |_: &[u8]| Ok(br#"{"status":"invalid_token"}"#.to_vec());
    let token = Sasl::token(Source::Inline(Secret::new("abc")));
    refused(asked_by(&broker(0, Box::new(say)).await, token).await, "does not take the token: {\\\"status\\\"");
    let odd = Sasl::token(Source::Inline(Secret::new("a b")));
    refused(asked_by(&broker(0, Box::new(say)).await, odd).await, "is not a token");
}

#[tokio::test]
async fn a_connection_is_left_before_its_session_ends() {
    let logins = async |lifetime_ms| {
        let count = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&count);
        let say = move |_: &[u8]| {
            *counter.lock().unwrap() += 1;
            Ok(Vec::new())
        };
        let security = Security { tls: None, sasl: Some(password(Mechanism::Plain)) };
        let cluster = broker(lifetime_ms, Box::new(say)).await.with_security(security);
        for _ in 0..5 {
            cluster.topic("t").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        *count.lock().unwrap()
    };
    assert_eq!(logins(0).await, 2, "one to the bootstrap broker, and one to broker 1 under its own name");
    assert_eq!(logins(3_600_000).await, 2);
    assert_eq!(logins(1).await, 5, "one for each call");
}

#[tokio::test]
async fn what_a_broker_offers_is_told() {
    let with = async |code, mechanisms: &[&'static str]| {
        let mechanisms: Vec<_> = mechanisms.iter().map(|name| StrBytes::from_static_str(name)).collect();
        let script = move |asked: &Asked| match asked.is::<SaslHandshakeRequest>() {
            true => {
                let response = SaslHandshakeResponse::default().with_error_code(code);
                asked.reply::<SaslHandshakeRequest>(&response.with_mechanisms(mechanisms.clone()))
            }
            false => asked.quiet(),
        };
        asked_by(&cluster(script).await, password(Mechanism::Plain)).await
    };
    refused(with(33, &["SCRAM-SHA-512", "GSSAPI"]).await, "by PLAIN: it offers GSSAPI, SCRAM-SHA-512: say another");
    refused(with(34, &[]).await, "does not ask who we are on this port");
}

#[tokio::test]
async fn a_port_that_wants_sasl_is_told_from_a_broker_that_goes_down() {
    let with = async |code| {
        let script = move |asked: &Asked| match asked.is::<SaslHandshakeRequest>() {
            true => {
                let mechanisms = ["PLAIN", "GSSAPI"].map(StrBytes::from_static_str).to_vec();
                let response = SaslHandshakeResponse::default().with_error_code(code).with_mechanisms(mechanisms);
                asked.reply::<SaslHandshakeRequest>(&response)
            }
            false if asked.is::<MetadataRequest>() => Reply::Close,
            false => asked.quiet(),
        };
        cluster(script).await.topic("t").await.unwrap_err()
    };
    let error = with(33).await;
    assert!(
        matches!(error, WireError::WantsSasl { .. }) && error.to_string().contains("offers GSSAPI, PLAIN"),
        "{error}"
    );
    let error = with(34).await;
    assert!(matches!(error, WireError::Lost { .. }), "{error}");
}

/// A broker's side of SCRAM-SHA-256 with the password "pencil" (RFC 5802).
struct Scram {
    iterations: u32,
    /// Proves something else than that it knows the password.
    lies: bool,
    /// Says nothing at the end.
    skips_its_proof: bool,
    nonce: String,
}

const SALT: &str = "c2FsdHNhbHQ=";

impl Scram {
    fn honest(iterations: u32) -> Self {
        Self { iterations, lies: false, skips_its_proof: false, nonce: String::new() }
    }

    fn say(mut self) -> Say {
        Box::new(move |said| {
            let said = std::str::from_utf8(said).unwrap();
            if let Some(nonce) = said.strip_prefix("n,,n=alice,r=") {
                nonce.clone_into(&mut self.nonce);
                return Ok(format!("r={nonce}broker,s={SALT},i={}", self.iterations).into_bytes());
            }
            let (proof, signature) = self.proofs();
            assert_eq!(said, format!("c=biws,r={}broker,p={}", self.nonce, STANDARD.encode(proof)));
            if self.skips_its_proof {
                return Ok(Vec::new());
            }
            let signature = if self.lies { Sha256::digest(signature) } else { signature };
            Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
        })
    }

    /// The client's proof and the broker's signature.
    fn proofs(&self) -> (Vec<u8>, Output<Sha256>) {
        let mut salted = Output::<Sha256>::default();
        let salt = STANDARD.decode(SALT).unwrap();
        rsasl::mechanisms::scram::tools::hash_password::<Sha256>(b"pencil", self.iterations, &salt, &mut salted);
        let (client_key, server_key) = derive_keys::<Sha256>(&salted);
        let (mut client, mut server) = (Output::<Sha256>::default(), Output::<Sha256>::default());
        compute_signatures::<Sha256>(
            &Sha256::digest(client_key),
            &server_key,
            "alice",
            self.nonce.as_bytes(),
            b"broker",
            SALT.as_bytes(),
            self.iterations.to_string().as_bytes(),
            b"biws",
            &mut client,
            &mut server,
        );
        (client_key.iter().zip(client).map(|(key, signature)| key ^ signature).collect(), server)
    }
}

#[tokio::test]
async fn scram_lets_both_sides_prove_that_they_know_the_password() {
    let scram = || password(Mechanism::ScramSha256);
    asked_by(&broker(0, Scram::honest(4_096).say()).await, scram()).await.unwrap();
    let liar = Scram { lies: true, ..Scram::honest(4_096) };
    refused(asked_by(&broker(0, liar.say()).await, scram()).await, "could not prove that it knows the password");
    let silent = Scram { skips_its_proof: true, ..Scram::honest(4_096) };
    refused(asked_by(&broker(0, silent.say()).await, scram()).await, "what it says is not SCRAM-SHA-256");
}

#[tokio::test]
async fn what_is_not_scram_is_said_to_be_none() {
    for odd in ["", ",", "r", "r=a", "r=a,s", "r=a,s=,i", "r=a,s=YQ==,i=4096", "=,=,=", "e=", "m=x,r=a,s=YQ==,i=4096"] {
        let say = move |_: &[u8]| Ok(odd.as_bytes().to_vec());
        refused(
            asked_by(&broker(0, Box::new(say)).await, password(Mechanism::ScramSha512)).await,
            "is not SCRAM-SHA-512",
        );
    }
}

#[tokio::test]
async fn scram_is_not_made_to_hash_too_little_or_too_much() {
    for iterations in [1, 4_095, 262_145, u32::MAX] {
        let outcome =
            asked_by(&broker(0, Scram::honest(iterations).say()).await, password(Mechanism::ScramSha256)).await;
        refused(outcome, &format!("asks for {iterations} iterations, and 4096 to 262144 are taken"));
    }
}
