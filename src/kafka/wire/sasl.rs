//! SASL: who we are, by rsasl.
//!
//! ```text
//!  Sasl ──begin──▶ Exchange ──step──▶ what to send (SaslAuthenticate) ──▶ the broker
//!  (reads the secret anew)     ▲                                              │
//!                              └─────────── what it answers ◀─────────────────┘   until both sides are content
//! ```
//!
//! With SCRAM the broker has to prove in its last answer that it knows the password too, and may not ask for more than
//! [`MAX_ITERATIONS`] of hashing (nor for fewer than the standard allows, which would make the password easy to guess).
//!
//! Deliberately not in here: GSSAPI (a C library), and fetching tokens, which others do well and leave in a file.

use std::{fmt, sync::Arc};

use rsasl::{
    callback::{Context, Request, SessionCallback, SessionData},
    config::SASLConfig,
    mechanisms::scram::properties::Iterations,
    mechname::Mechname,
    prelude::{SASLClient, Session, SessionError, State},
    property::{AuthId, OAuthBearerToken, Password},
};

use crate::secret::{Secret, Source};

/// The least that RFC 7677 allows, and Kafka.
const MIN_ITERATIONS: u32 = 4_096;
/// Sixteen times what Kafka itself goes up to: about a tenth of a second of a processor.
const MAX_ITERATIONS: u32 = 262_144;

/// How we say who we are (`--sasl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// User and password, as they are (RFC 4616).
    Plain,
    /// A proof that the password is known, by SHA-256 (RFC 7677).
    ScramSha256,
    /// The same, by SHA-512.
    ScramSha512,
    /// A token, as it is (RFC 7628).
    OAuthBearer,
}

impl Mechanism {
    /// All that there are.
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OAuthBearer];

    /// Its name in the protocol, and in `sasl.mechanism`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// Whether whoever listens in could use what we send.
    #[must_use]
    pub fn shows_its_secret(self) -> bool {
        matches!(self, Self::Plain | Self::OAuthBearer)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who we are, and where the proof of it comes from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sasl {
    mechanism: Mechanism,
    user: Arc<str>,
    secret: Arc<Source>,
}

impl Sasl {
    /// A user with a password.
    ///
    /// # Panics
    /// If `mechanism` is [`Mechanism::OAuthBearer`], which has no password.
    #[must_use]
    pub fn password(mechanism: Mechanism, user: &str, password: Source) -> Self {
        assert_ne!(mechanism, Mechanism::OAuthBearer, "a token is not a password");
        Self { mechanism, user: user.into(), secret: Arc::new(password) }
    }

    /// Whoever the token says. Its source is read again for each connection.
    #[must_use]
    pub fn token(token: Source) -> Self {
        Self { mechanism: Mechanism::OAuthBearer, user: "".into(), secret: Arc::new(token) }
    }

    pub(super) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// An exchange that nothing was said in yet. Reads the secret: it may have changed.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) fn begin(&self) -> Result<Exchange, String> {
        let secret = self.secret.read_line()?;
        if self.mechanism == Mechanism::OAuthBearer && !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("{} is not a token: it has blanks or other odd characters in it", self.secret.name()));
        }
        let failed = |error: &dyn fmt::Display| format!("rsasl: {error}");
        let answers = Answers { user: Arc::clone(&self.user), secret };
        let config = SASLConfig::builder().with_default_mechanisms().with_callback(answers);
        let config = config.map_err(|error| failed(&error))?;
        let name = Mechname::parse(self.mechanism.name().as_bytes()).map_err(|error| failed(&error))?;
        let session = SASLClient::new(config).start_suggested(&[name]).map_err(|error| failed(&error))?;
        Ok(Exchange { session, mechanism: self.mechanism, finished: false })
    }
}

/// What rsasl may ask us.
struct Answers {
    user: Arc<str>,
    secret: Secret,
}

impl SessionCallback for Answers {
    fn callback(&self, _: &SessionData, context: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        if let Some(&iterations) = context.get_ref::<Iterations>()
            && !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations)
        {
            return Err(SessionError::Boxed(Box::new(BadIterations(iterations))));
        }
        let secret = self.secret.expose();
        request
            .satisfy::<AuthId>(&self.user)?
            .satisfy::<Password>(secret.as_bytes())?
            .satisfy::<OAuthBearerToken>(secret)?;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the broker asks for {0} iterations, and {MIN_ITERATIONS} to {MAX_ITERATIONS} are taken")]
struct BadIterations(u32);

/// One exchange with one broker.
pub(super) struct Exchange {
    session: Session,
    mechanism: Mechanism,
    finished: bool,
}

impl Exchange {
    /// Takes what the broker said (nothing, at first). Gives what is to be sent; `None` when the exchange is over, and the
    /// broker is who it has to be. May take a while with SCRAM, so it is not for a thread that must not block.
    ///
    /// # Errors
    /// Why the exchange has failed.
    pub(super) fn step(&mut self, said: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        if self.finished {
            return Ok(None);
        }
        // Whether the token is good the broker says in this way; by the standard it fails only at our next word.
        if let (Mechanism::OAuthBearer, Some(said @ [_, ..])) = (self.mechanism, said) {
            return Err(format!("it does not take the token: {}", String::from_utf8_lossy(said).escape_debug()));
        }
        // rsasl 2.3 panics at a part of SCRAM's messages that is shorter than its name.
        let is_scram = matches!(self.mechanism, Mechanism::ScramSha256 | Mechanism::ScramSha512);
        if is_scram && said.is_some_and(|said| !has_attributes(said)) {
            return Err(format!("what it says is not {}", self.mechanism));
        }
        let mut out = Vec::new();
        let state = self.session.step(said, &mut out).map_err(|error| self.in_words(&error))?;
        self.finished = state.is_finished();
        let has_more = matches!(state, State::Running) || state.has_sent_message();
        Ok(has_more.then_some(out))
    }

    fn in_words(&self, error: &SessionError) -> String {
        match error {
            SessionError::MutualAuthenticationFailed => {
                "it could not prove that it knows the password too: is this the right broker?".to_owned()
            }
            SessionError::Boxed(error) => error.to_string(),
            error => format!("what it says is not {}: {error}", self.mechanism),
        }
    }
}

/// Whether a message is made of `x=...`, separated by commas.
fn has_attributes(said: &[u8]) -> bool {
    said.split(|byte| *byte == b',').all(|part| matches!(part, [name, b'=', ..] if name.is_ascii_alphabetic()))
}
