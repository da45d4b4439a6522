//! A process: a member, an engine that does what it is told, and books of what it holds.

use super::{super::holdings, *};

pub(super) struct Process {
    pub(super) it: Membership,
    pub(super) settings: Settings,
    pub(super) lives: bool,
    /// It has said that it leaves, and waits for the answer.
    pub(super) leaves: bool,
    /// What has come for it while it stands still.
    pub(super) standing: Option<Vec<Event>>,
    pub(super) cut_off: bool,
    /// It stands still as soon as it has sent something.
    pub(super) faints: bool,
    /// How many of its messages are not lost.
    pub(super) lucky: u32,
    /// How long it takes to give something up, at the most.
    pub(super) pace: Duration,
    /// It has asked what is known of topics.
    pub(super) asks: bool,
    held: ByName,
    leaving: ByName,
    pub(super) epoch: Option<Epoch>,
    rebalances: bool,
}

impl Process {
    pub(super) fn new(it: Membership, settings: Settings, pace: Duration) -> Self {
        Self {
            it,
            settings,
            lives: true,
            leaves: false,
            standing: None,
            cut_off: false,
            faints: false,
            lucky: 0,
            pace,
            asks: false,
            held: ByName::new(),
            leaving: ByName::new(),
            epoch: None,
            rebalances: false,
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.lives && self.standing.is_none()
    }

    pub(super) fn ends(&mut self) {
        self.lives = false;
        self.held.clear();
        self.leaving.clear();
    }

    /// What it holds and may act upon: its session is not over.
    pub(super) fn holds(&self, now: Instant) -> Option<&ByName> {
        let at = self.it.acknowledged_at()?;
        (self.runs() && at + self.settings.session_timeout > now).then_some(&self.held)
    }

    pub(super) fn held(&self) -> &ByName {
        &self.held
    }

    pub(super) fn leaving(&self) -> &ByName {
        &self.leaving
    }

    /// Nothing is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.runs() && self.leaving.is_empty() && !self.rebalances
    }

    /// Writes down what has changed. Gives what has to be given up.
    pub(super) fn note(&mut self, change: Change, mood: Mood, any_is_back: bool) -> Result<Option<ByName>, Violation> {
        match change {
            Change::Assigned { partitions, epoch } => {
                promise!(holdings::both(&self.held, &partitions).is_empty(), "5: {partitions:?} is assigned twice");
                promise!(self.epoch.as_ref() == Some(&epoch), "5: {epoch:?} was not told before, {:?}", self.epoch);
                holdings::add(&mut self.held, &partitions);
            }
            Change::Revoked { partitions } => {
                let kept = holdings::minus(&self.held, &self.leaving);
                promise!(holdings::minus(&partitions, &kept).is_empty(), "5: {partitions:?} cannot be revoked");
                holdings::add(&mut self.leaving, &partitions);
                return Ok(Some(partitions));
            }
            Change::Lost { partitions, why } => {
                promise!(partitions == self.held, "5: {partitions:?} are lost, of {:?}", self.held);
                // An answer to JoinGroup that is lost hides the generation, under which alone heartbeats are acknowledged,
                // until the next one; and that may wait for others for longer than a session.
                let excused = mood == Mood::Bad || mood == Mood::Lossy && why == Loss::Session;
                promise!(excused, "6: all is lost, though nothing is wrong: {why}");
                self.held.clear();
                self.leaving.clear();
                self.epoch = None;
            }
            Change::Epoch(epoch) => self.epoch = Some(epoch),
            Change::News(News::Begins { why }) => {
                promise!(!self.rebalances, "7: begins again: {why}");
                let late = why.contains("still belongs to nobody");
                // A static member that went before it heard that it has to give something up comes back without that, and
                // has nothing to join again for.
                promise!(!late || mood == Mood::Bad || any_is_back, "2: nobody has joined for what was given up");
                self.rebalances = true;
            }
            Change::News(News::Ends { .. }) => {
                promise!(self.rebalances, "7: ends, and has not begun");
                self.rebalances = false;
            }
            Change::News(_) => {}
            Change::Fatal(why) => return Err(format!("6: {why}")),
        }
        Ok(None)
    }

    pub(super) fn releases(&mut self, partitions: &ByName, now: Instant) {
        self.held = holdings::minus(&self.held, partitions);
        self.leaving = holdings::minus(&self.leaving, partitions);
        self.it.released(partitions, now);
    }
}
