//! What a member of a group may still do with what it holds: until when, under which epoch, and since which loss.
//!
//! ```text
//!   group.rs ──tells──▶ Standing ◀──asks── before each commit (kafka/member_offsets.rs), before each send (sink.rs)
//! ```
//!
//! A coordinator gives away what a member holds when it has not heard of it for a session timeout. So nothing is sent after
//! that time, whoever else would notice it later (a process that was stopped wakes up in the middle of anything). And what
//! was on its way when everything was lost is not sent by the member that has joined again: it carries the number of losses
//! that there were when it set out, the *era*.
//!
//! With fixed partitions there is nobody to lose them to: the standing is good for ever.

use std::time::Instant;

use tokio::sync::watch;

use crate::kafka::wire::Identity;

/// The number of times that everything was lost.
pub(crate) type Era = u64;

/// See the [module's documentation](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) era: Era,
    /// As whom to commit; nobody, while no commit would be taken.
    pub(crate) identity: Option<Identity>,
    /// Until when what is held is ours; for ever where that is `None`.
    pub(crate) good_until: Option<Instant>,
}

impl State {
    /// Whether what set out in this era may be sent at this time.
    pub(crate) fn may(&self, era: Era, now: Instant) -> May {
        match self.good_until {
            _ if era < self.era => May::Never,
            Some(until) if now >= until => May::Wait,
            _ => May::Send,
        }
    }

    /// As whom to commit at this time what was worked off in this era; `None` if that may not be committed, now or ever.
    pub(crate) fn identity(&self, era: Era, now: Instant) -> Option<Identity> {
        let may = self.era == era && self.may(era, now) == May::Send;
        self.identity.clone().filter(|_| may)
    }
}

/// A look at the standing of this process, as of now.
#[derive(Debug, Clone)]
pub(crate) struct Standing(watch::Receiver<State>);

/// Whether something may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    /// It may.
    Send,
    /// Not now: whether it is ours is about to be known.
    Wait,
    /// Never: what it belongs to is lost.
    Never,
}

impl Standing {
    /// What is told by one who knows, beginning with this.
    pub(crate) fn told(state: State) -> (watch::Sender<State>, Self) {
        let (sender, receiver) = watch::channel(state);
        (sender, Self(receiver))
    }

    /// That of a process whose partitions are fixed.
    pub(crate) fn fixed() -> Self {
        Self(watch::channel(State { era: 0, identity: None, good_until: None }).1)
    }

    /// Whether what set out in this era may be sent now.
    pub(crate) fn may(&self, era: Era) -> May {
        self.0.borrow().may(era, Instant::now())
    }

    /// As whom to commit what was worked off in this era; `None` if that may not be committed, now or ever.
    pub(crate) fn identity(&self, era: Era) -> Option<Identity> {
        self.0.borrow().identity(era, Instant::now())
    }

    /// Waits until what set out in this era may not be sent, now or ever.
    pub(crate) async fn over(&mut self, era: Era) {
        while self.may(era) == May::Send {
            let good_until = self.0.borrow().good_until;
            match good_until {
                None => self.changed().await,
                // A change may come first.
                Some(until) => _ = tokio::time::timeout_at(until.into(), self.changed()).await,
            }
        }
    }

    /// Waits until something has changed. For ever, if nobody can tell any more.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::kafka::wire::Epoch;

    fn identity() -> Identity {
        Identity { member: Arc::from("m"), instance: None, epoch: Epoch::Generation(3) }
    }

    #[test]
    fn what_is_fixed_is_good_for_ever() {
        assert_eq!(Standing::fixed().may(0), May::Send);
    }

    #[test]
    fn nothing_is_sent_once_the_session_may_be_over() {
        let soon = Instant::now() + Duration::from_secs(60);
        let (tell, standing) = Standing::told(State { era: 0, identity: Some(identity()), good_until: Some(soon) });
        assert_eq!((standing.may(0), standing.identity(0)), (May::Send, Some(identity())));
        tell.send_modify(|state| state.good_until = Some(Instant::now()));
        assert_eq!((standing.may(0), standing.identity(0)), (May::Wait, None));
    }

    #[test]
    fn what_set_out_before_everything_was_lost_is_never_sent() {
        let (tell, standing) = Standing::told(State { era: 0, identity: Some(identity()), good_until: None });
        tell.send_modify(|state| state.era = 1);
        assert_eq!((standing.may(0), standing.identity(0)), (May::Never, None));
        assert_eq!((standing.may(1), standing.identity(1)), (May::Send, Some(identity())));
    }
}
