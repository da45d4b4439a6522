//! What the engine does where the group deals partitions out.

use std::time::{Duration, Instant};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::Engine;
use crate::{
    error::RunError,
    group::{Deal, Link, Order, Steward},
    record::TopicPartition,
    standing::Era,
    startup::Dealt,
};

/// How long the group is told that we leave. It finds out by itself, somewhat later.
const LEAVING: Duration = Duration::from_secs(3);

/// The engine's end of the membership.
pub(crate) struct Grouped {
    deals: mpsc::Receiver<Deal>,
    orders: mpsc::Sender<Order>,
    steward: JoinHandle<()>,
    /// What was given up, and could not be told yet.
    released: Vec<TopicPartition>,
    pub(super) era: Era,
}

impl Grouped {
    /// Starts a steward.
    pub(crate) fn start(steward: Steward, link: Link) -> Self {
        let Link { deals, orders } = link;
        Self { deals, orders, steward: tokio::spawn(steward.run()), released: Vec::new(), era: 0 }
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
        match deal {
            Deal::Taken(dealt) => self.take_on(dealt, now),
            Deal::Revoked(partitions, until) => {
                // A run that ends takes nothing on, and has nothing to give up.
                let not_ours = self.scheduler.revoke(&partitions, until, now);
                if let Some(group) = &mut self.group {
                    group.released.extend(not_ours);
                }
            }
            Deal::Lost(partitions, era) => {
                if let Some(group) = &mut self.group {
                    group.era = era;
                }
                self.scheduler.begin_era(era);
                self.scheduler.lose(&partitions, now);
            }
            Deal::Nothing => self.scheduler.handle_nothing(now),
            Deal::Fatal(error) => self.scheduler.stop(error, now),
        }
    }

    fn take_on(&mut self, dealt: Dealt, now: Instant) {
        let Dealt { taken, losses, added, lag, .. } = dealt;
        self.pool.warm_up(usize::try_from(lag).unwrap_or_default());
        for loss in losses {
            self.scheduler.tell_loss(loss);
        }
        for (source, start) in added {
            self.scheduler.tell_added(&source, start);
        }
        self.scheduler.assign(taken, now);
    }

    /// Gives up what was revoked and is done, and says so.
    pub(super) fn release_settled(&mut self, now: Instant) {
        let Some(group) = &mut self.group else { return };
        while let Some(source) = self.scheduler.poll_settled(now) {
            group.released.push((*source).clone());
        }
        if group.released.is_empty() {
            return;
        }
        self.scheduler.release(&group.released, now);
        if let Ok(room) = group.orders.try_reserve() {
            room.send(Order::Released(std::mem::take(&mut group.released)));
        }
    }
}
