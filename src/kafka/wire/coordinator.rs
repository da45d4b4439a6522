//! A group's coordinator: which broker it is, and asking it.
//!
//! A broker answers the requests of one connection in their order, and keeps a member waiting that joins until all others
//! have come. So members have lanes of their own ([`Lanes`]), and neither delay each other nor a commit.
//!
//! ```text
//!   offsets, who is in it ──▶ the connections of everybody
//!   join, sync ─────────────▶ Lanes::waits   may take minutes
//!   heartbeats, leave ──────▶ Lanes::beats   answered at once
//! ```

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{FindCoordinatorRequest, FindCoordinatorResponse},
    protocol::{Request, StrBytes},
};
use tokio::time::Instant;

use super::{
    Cluster, ErrorCode, WireError,
    cluster::{Answer, Peer, learn},
    connection::{self, Kind, Write, writing},
    throttle::Throttled,
};

/// The connections of members, beside those of everybody: the same cluster, set apart.
pub(super) struct Lanes {
    /// For what the coordinator answers when others have come, too.
    pub(super) waits: Cluster,
    /// For what it answers at once.
    pub(super) beats: Cluster,
}

impl Cluster {
    /// Asks the coordinator of `group` once. After an error (which `read` finds out) it is looked up anew at the next
    /// attempt, unless it is one that only the coordinator can know of.
    pub(super) async fn ask_coordinator<R: Request<Response: Throttled>, T>(
        &self,
        group: &str,
        until: Instant,
        least: i16,
        build: impl FnOnce(i16) -> R + Send,
        read: impl FnOnce(Answer<R::Response>) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        let asked = (Kind::of::<R>(), least);
        let outcome = self.ask_coordinator_raw(group, until, asked, &mut writing(build)).await;
        let outcome = outcome.and_then(|(peer, answer)| {
            let answer = answer.read(connection::read::<R>)?;
            self.heed(peer, &answer);
            read(answer)
        });
        if outcome.as_ref().is_err_and(|error| !error.code().is_some_and(ErrorCode::is_of_membership)) {
            self.known().coordinators.remove(group);
        }
        outcome
    }

    /// What all kinds of requests have in common, compiled once. Gives also who has answered.
    async fn ask_coordinator_raw(
        &self,
        group: &str,
        until: Instant,
        asked: (Kind, i16),
        write: Write<'_>,
    ) -> Result<(Peer, Answer<(i16, Bytes)>), WireError> {
        let cached = self.known().coordinators.get(group).copied();
        let node = match cached {
            Some(node) => node,
            None => self.find_coordinator(group, until).await?,
        };
        Ok((Peer::Node(node), self.ask_raw(Peer::Node(node), until, asked, write).await?))
    }

    /// Within one attempt's time, however long what is then asked may take.
    async fn find_coordinator(&self, group: &str, until: Instant) -> Result<i32, WireError> {
        let until = until.min(Instant::now() + self.deadlines().request / 2);
        let key = StrBytes::from_string(group.to_owned());
        let build = |version| match version {
            0..4 => FindCoordinatorRequest::default().with_key(key),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![key]),
        };
        let answer = self.ask_any::<FindCoordinatorRequest>(until, 0, build).await?;
        let Located { code, message, node, host, port } = located(&answer.response);
        answer.check_saying(code, message, || format!("group {group}"))?;
        let mut known = self.known();
        learn(&mut known, node, host, port);
        known.coordinators.insert(group.to_owned(), node);
        Ok(node)
    }
}

struct Located<'a> {
    code: i16,
    message: Option<&'a StrBytes>,
    node: i32,
    host: &'a str,
    port: i32,
}

/// From version 4 on a response has a list of coordinators, of which we asked for one.
fn located(response: &FindCoordinatorResponse) -> Located<'_> {
    match response.coordinators.first() {
        Some(c) => Located {
            code: c.error_code,
            message: c.error_message.as_ref(),
            node: c.node_id.0,
            host: &c.host,
            port: c.port,
        },
        None if response.error_code == 0 && response.host.is_empty() => {
            Located { code: ResponseError::CoordinatorNotAvailable.code(), message: None, node: -1, host: "", port: 0 }
        }
        None => Located {
            code: response.error_code,
            message: response.error_message.as_ref(),
            node: response.node_id.0,
            host: &response.host,
            port: response.port,
        },
    }
}
