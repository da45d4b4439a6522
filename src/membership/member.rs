//! PURE. What a member is whichever protocol it speaks: its settings, what it holds, and how long it may believe in that.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{
    Change, Defect, Epoch, Fatal, Loss, News, Settings, Topics,
    exchange::ByName,
    holdings::{Holdings, count},
};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) settings: Settings,
    pub(super) subscribed: BTreeSet<Arc<str>>,
    pub(super) topics: Topics,
    pub(super) holdings: Holdings,
    pub(super) changes: VecDeque<Change>,
    pub(super) epoch: Option<Epoch>,
    pub(super) acknowledged_at: Option<Instant>,
    rebalance: Option<Rebalance>,
    #[cfg(test)]
    pub(super) defect: Option<Defect>,
}

/// One that is under way.
#[derive(Debug)]
struct Rebalance {
    since: Instant,
    gained: usize,
    gone: usize,
}

impl Member {
    pub(super) fn new(settings: Settings, subscribed: BTreeSet<Arc<str>>) -> Self {
        Self {
            settings,
            subscribed,
            topics: Topics::new(),
            holdings: Holdings::default(),
            changes: VecDeque::new(),
            epoch: None,
            acknowledged_at: None,
            rebalance: None,
            #[cfg(test)]
            defect: None,
        }
    }

    pub(super) fn tell(&mut self, news: News) {
        self.changes.push_back(Change::News(news));
    }

    /// A rebalance begins, unless one is under way.
    pub(super) fn begins(&mut self, why: &'static str, now: Instant) {
        if self.rebalance.is_none() {
            self.rebalance = Some(Rebalance { since: now, gained: 0, gone: 0 });
            self.tell(News::Begins { why });
        }
    }

    /// The rebalance that is under way, if one is, is over.
    pub(super) fn ends(&mut self, now: Instant) {
        if let Some(Rebalance { since, gained, gone }) = self.rebalance.take() {
            let took = now.saturating_duration_since(since);
            let epoch = self.epoch.as_ref().map_or(-1, |epoch| epoch.number);
            // What went and came back is no news.
            let back = gained.min(gone);
            let held = count(self.holdings.held());
            self.tell(News::Ends { epoch, held, gained: gained - back, gone: gone - back, took });
        }
    }

    /// Takes in what is to be held, and tells of it.
    pub(super) fn aim(&mut self, target: &ByName) {
        let (added, revoked) = self.holdings.aim(target);
        if !revoked.is_empty() {
            self.count(0, count(&revoked));
            self.changes.push_back(Change::Revoked { partitions: revoked });
        }
        if !added.is_empty() {
            self.count(count(&added), 0);
            let epoch = self.epoch.clone().expect("nothing is assigned outside of an epoch");
            self.changes.push_back(Change::Assigned { partitions: added, epoch });
        }
    }

    fn count(&mut self, gained: usize, gone: usize) {
        if let Some(rebalance) = &mut self.rebalance {
            rebalance.gained += gained;
            rebalance.gone += gone;
        }
    }

    /// What commits have to carry from now on.
    pub(super) fn enter(&mut self, id: &Arc<str>, number: i32) {
        let epoch = Epoch { member: Arc::clone(id), number, instance: self.settings.instance.clone() };
        if self.epoch.as_ref() == Some(&epoch) || self.breaks(Defect::OldEpoch) && self.epoch.is_some() {
            return;
        }
        self.epoch = Some(epoch.clone());
        self.changes.push_back(Change::Epoch(epoch));
    }

    /// Nothing is ours any more.
    pub(super) fn lose(&mut self, why: Loss) {
        self.epoch = None;
        self.acknowledged_at = None;
        let partitions = self.holdings.take();
        if !partitions.is_empty() {
            self.count(0, count(&partitions));
            self.changes.push_back(Change::Lost { partitions, why });
        }
    }

    /// The same, without a word.
    pub(super) fn forget_all(&mut self) {
        self.epoch = None;
        self.acknowledged_at = None;
        self.holdings.take();
    }

    pub(super) fn end(&mut self, why: Fatal) {
        self.lose(Loss::Fatal);
        self.changes.push_back(Change::Fatal(why));
    }

    /// The coordinator has acknowledged what was sent then.
    pub(super) fn acknowledge(&mut self, sent: Instant, now: Instant) {
        let at = if self.breaks(Defect::CountFromAnswer) { now } else { sent };
        self.acknowledged_at = self.acknowledged_at.max(Some(at));
    }

    /// When what is held is lost, if nothing is acknowledged until then.
    pub(super) fn session_end(&self) -> Option<Instant> {
        let forgets = self.breaks(Defect::NoSessionTimer) || self.breaks(Defect::OutliveSession);
        if self.holdings.is_empty() || forgets {
            return None;
        }
        self.acknowledged_at.map(|at| at + self.settings.session_timeout)
    }

    /// Whether the session is over, as far as we can know.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        let end = self.acknowledged_at.map(|at| at + self.settings.session_timeout);
        end.is_some_and(|end| end <= now) && !self.breaks(Defect::OutliveSession)
    }

    pub(super) fn fenced_instance(&self) -> Fatal {
        Fatal::FencedInstance(self.settings.instance.clone().unwrap_or_else(|| "".into()))
    }

    #[cfg(test)]
    pub(super) fn breaks(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(super) fn breaks(&self, _: Defect) -> bool {
        false
    }
}
