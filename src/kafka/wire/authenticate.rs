//! Saying who we are on a new connection: SaslHandshake, then SaslAuthenticate until both sides are content (KIP-152).
//!
//! A broker may want to hear it again after a while (KIP-368). A connection does one thing at a time and is cheap to make
//! anew, so that is what is done: some time before, the connection counts as closed.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{SaslAuthenticateRequest, SaslHandshakeRequest},
    protocol::StrBytes,
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{ErrorCode, Mechanism, Sasl, Security, WireError, connection::Connection};

/// How long we try to find out whether a port wants SASL.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest exchange, SCRAM's, has three steps.
const MAX_STEPS: usize = 4;

impl Connection {
    /// Says who we are. It takes as long as it takes: the deadline is the caller's.
    pub(super) async fn authenticate(&mut self, sasl: &Sasl) -> Result<(), WireError> {
        let mechanism = sasl.mechanism();
        let refused = {
            let broker = self.address.to_string();
            move |reason: String| WireError::NotLetIn { broker: broker.clone(), mechanism, reason }
        };
        self.agree_on_mechanism(mechanism).await?;
        // Reading a file may block, and hashing takes its time.
        let begun = spawn_blocking({
            let sasl = sasl.clone();
            move || sasl.begin()
        });
        let mut exchange = joined(begun).await.map_err(&refused)?;
        let mut said: Option<Bytes> = None;
        let mut lifetime_ms = 0;
        for _ in 0..MAX_STEPS {
            let step = spawn_blocking(move || exchange.step(said.as_deref()).map(|out| (exchange, out)));
            let (next, out) = joined(step).await.map_err(&refused)?;
            let Some(out) = out else {
                self.good_until = good_for(lifetime_ms).map(|time| Instant::now() + time);
                return Ok(());
            };
            exchange = next;
            let build = |_| SaslAuthenticateRequest::default().with_auth_bytes(out.into());
            let response = self.call::<SaslAuthenticateRequest>(0, build).await?;
            let message = response.error_message.as_ref().filter(|text| !text.is_empty());
            ErrorCode::check(response.error_code)
                .map_err(|code| refused(denied(mechanism, code, message.map(StrBytes::as_str))))?;
            (said, lifetime_ms) = (Some(response.auth_bytes), response.session_lifetime_ms);
        }
        Err(refused("it does not come to an end".to_owned()))
    }

    /// What is behind an error of the first request of somebody who has not said who they are: a port with SASL closes the
    /// connection then, without a word. Asks on a connection of its own.
    pub(super) async fn first_failed(&self, error: WireError, security: &Security, until: Instant) -> WireError {
        if self.welcome || !matches!(error, WireError::Lost { .. }) {
            return error;
        }
        let until = until.min(Instant::now() + PATIENCE);
        let offered = async {
            let mut other = Self::open(&self.address, &self.client_id, security, until).await.ok()?;
            // A mechanism that there is not, so that nothing begins. A port without SASL says that it is in no such state.
            let response = other.call(1, |_| SaslHandshakeRequest::default()).await.ok()?;
            let is_sasl = ErrorCode(response.error_code).is(ResponseError::UnsupportedSaslMechanism);
            is_sasl.then(|| listed(&response.mechanisms))
        };
        match timeout_at(until, offered).await {
            Ok(Some(offered)) => WireError::WantsSasl { broker: self.address.to_string(), offered },
            _ => error,
        }
    }

    async fn agree_on_mechanism(&mut self, mechanism: Mechanism) -> Result<(), WireError> {
        let name = StrBytes::from_static_str(mechanism.name());
        let build = |_| SaslHandshakeRequest::default().with_mechanism(name);
        // Version 0 is followed by bytes that are no requests; version 1 is there since Kafka 1.0.
        let response = self.call::<SaslHandshakeRequest>(1, build).await?;
        ErrorCode::check(response.error_code).map_err(|code| {
            let reason = if code.is(ResponseError::UnsupportedSaslMechanism) {
                format!("it offers {}: say another with --sasl", listed(&response.mechanisms))
            } else if code.is(ResponseError::IllegalSaslState) {
                "it does not ask who we are on this port: leave --sasl off, or name its port with SASL".to_owned()
            } else {
                code.to_string()
            };
            WireError::NotLetIn { broker: self.address.to_string(), mechanism, reason }
        })
    }
}

fn listed(mechanisms: &[StrBytes]) -> String {
    let mut names: Vec<_> = mechanisms.iter().map(StrBytes::as_str).collect();
    names.sort_unstable();
    names.join(", ")
}

fn denied(mechanism: Mechanism, code: ErrorCode, message: Option<&str>) -> String {
    let message = message.map_or_else(|| code.to_string(), |message| format!("{code}: {message}"));
    let what = if mechanism == Mechanism::OAuthBearer { "is the token right?" } else { "are user and password right?" };
    format!("{message} ({what})")
}

/// How long a connection is used, of the time that the broker gives it; 0 is for ever. A tenth is left for what is under
/// way then.
fn good_for(lifetime_ms: i64) -> Option<Duration> {
    u64::try_from(lifetime_ms).ok().filter(|ms| *ms > 0).map(|ms| Duration::from_millis(ms - ms / 10))
}

async fn joined<T>(task: tokio::task::JoinHandle<Result<T, String>>) -> Result<T, String> {
    task.await.unwrap_or_else(|error| Err(format!("a fault of ours: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_left_before_its_time_is_over() {
        assert_eq!(good_for(0), None);
        assert_eq!(good_for(-1), None);
        assert_eq!(good_for(60_000), Some(Duration::from_secs(54)));
        assert_eq!(good_for(1), Some(Duration::from_millis(1)));
        assert!(good_for(i64::MAX).is_some());
    }
}
