//! What the engine does where the group deals partitions out.

use std::time::{Duration, Instant};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{Engine, share::Share};
use crate::{
    error::RunError,
    group::{Deal, Link, Order, Steward},
};

/// How long the group is told that we leave. It finds out by itself, somewhat later.
const LEAVING: Duration = Duration::from_secs(3);

/// The engine's end of the membership.
pub(crate) struct Grouped {
    deals: mpsc::Receiver<Deal>,
    orders: mpsc::Sender<Order>,
    steward: JoinHandle<()>,
    pub(super) share: Share,
}

impl Grouped {
    /// Starts a steward.
    pub(crate) fn start(steward: Steward, link: Link) -> Self {
        let Link { deals, orders } = link;
        Self { deals, orders, steward: tokio::spawn(steward.run()), share: Share::default() }
    }

    /// Leaves the group, for as long as that may take.
    pub(super) async fn leave(mut self) {
        let leave = async {
            // A steward that is gone has nothing to leave any more.
            let _ = self.orders.send(Order::Leave).await;
            // What it still deals finds nobody.
            while self.deals.recv().await.is_some() {}
            let _ = (&mut self.steward).await;
        };
        if timeout(LEAVING, leave).await.is_err() {
            tracing::warn!(
                "could not tell the group that this member leaves: it will be missed after its session timeout"
            );
        }
        self.steward.abort();
    }
}

/// Waits for the next deal; for ever where nothing is dealt.
pub(super) async fn dealt(group: &mut Option<Grouped>) -> Deal {
    let Some(Grouped { deals, .. }) = group else { return std::future::pending().await };
    if let Some(deal) = deals.recv().await {
        return deal;
    }
    // Once it is over, it has said why; one that was lost to a panic cannot.
    let lost = match group.take() {
        Some(Grouped { steward, .. }) => steward.await.is_err(),
        None => false,
    };
    match lost {
        true => Deal::Fatal(RunError::Fault { part: "the membership of the group" }),
        false => std::future::pending().await,
    }
}

impl Engine {
    pub(super) fn take_deal(&mut self, deal: Deal, now: Instant) {
        if let Deal::Taken(dealt) = &deal {
            self.pool.warm_up(usize::try_from(dealt.lag).unwrap_or_default());
        }
        match &mut self.group {
            Some(group) => group.share.take(&mut self.scheduler, deal, now),
            // It has said why it is over.
            None => Share::default().take(&mut self.scheduler, deal, now),
        }
    }

    /// Gives up what was revoked and is done, and says so.
    pub(super) fn release_settled(&mut self, now: Instant) {
        let Some(group) = &mut self.group else { return };
        group.share.settle(&mut self.scheduler, now);
        if group.share.released.is_empty() {
            return;
        }
        if let Ok(room) = group.orders.try_reserve() {
            room.send(Order::Released(std::mem::take(&mut group.share.released)));
        }
    }
}
