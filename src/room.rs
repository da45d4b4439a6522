//! How much may be held at once: a count that is taken before something is let in, and given back when it is done with.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A limit on something that is counted.
#[derive(Debug)]
pub(crate) struct Room {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
}

impl Room {
    pub(crate) fn new(limit: usize) -> Self {
        assert!(limit > 0, "no room at all");
        Self { limit, used: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// Takes `count`, and waits for as long as there is no room for it. Where nothing is taken, any count has room, so
    /// that what is larger than the limit does not wait for ever.
    pub(crate) async fn take(&self, count: usize) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.try_take(count) {
                return;
            }
            freed.await;
        }
    }

    /// Takes up to `most`, and at least 1, as much as there is room for; gives how many it took. Waits for as long as there
    /// is less room than a 64th of the limit, or than `most`, so that a room that is full does not give out its places one
    /// by one.
    pub(crate) async fn take_some(&self, most: usize) -> usize {
        let least = most.min(self.limit / 64).max(1);
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(taken) = self.try_take_some(least, most) {
                return taken;
            }
            freed.await;
        }
    }

    fn try_take_some(&self, least: usize, most: usize) -> Option<usize> {
        let mut taken = 0;
        let fits = |used: usize| {
            taken = self.limit.saturating_sub(used).min(most);
            (taken >= least).then_some(used + taken)
        };
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok().map(|_| taken)
    }

    fn try_take(&self, count: usize) -> bool {
        let fits = |used: usize| (used == 0 || used + count <= self.limit).then_some(used + count);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }

    /// How much is taken.
    #[cfg(all(test, feature = "broker"))]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Gives `count` back.
    pub(crate) fn give(&self, count: usize) {
        let before = self.used.fetch_sub(count, Ordering::AcqRel);
        assert!(before >= count, "more room given back than was taken");
        self.freed.notify_waiters();
    }

    /// Makes `taken` into `actual`, once it is known how much something really is.
    pub(crate) fn adjust(&self, taken: usize, actual: usize) {
        if actual > taken {
            self.used.fetch_add(actual - taken, Ordering::AcqRel);
        } else {
            self.give(taken - actual);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_there_is_room() {
        let room = Room::new(10);
        assert!(room.take(6).now_or_never().is_some());
        let mut waiting = Box::pin(room.take(5));
        assert!((&mut waiting).now_or_never().is_none());
        room.give(1);
        assert!((&mut waiting).now_or_never().is_some());
        assert!(room.take(1).now_or_never().is_none(), "full again");
    }

    #[test]
    fn some_is_taken_where_there_is_not_room_for_all() {
        let room = Room::new(10);
        assert_eq!(room.take_some(6).now_or_never(), Some(6));
        assert_eq!(room.take_some(6).now_or_never(), Some(4), "one that stays for long is not in the way");
        let mut waiting = Box::pin(room.take_some(6));
        assert_eq!((&mut waiting).now_or_never(), None);
        room.give(1);
        assert_eq!((&mut waiting).now_or_never(), Some(1));
        let large = Room::new(640);
        assert_eq!(large.take_some(635).now_or_never(), Some(635));
        assert_eq!(large.take_some(100).now_or_never(), None, "not one by one");
        assert_eq!(large.take_some(5).now_or_never(), Some(5));
    }

    #[test]
    fn what_is_larger_than_the_limit_goes_alone() {
        let room = Room::new(10);
        assert!(room.take(11).now_or_never().is_some());
        assert!(room.take(1).now_or_never().is_none());
        room.adjust(11, 9);
        assert!(room.take(1).now_or_never().is_some());
    }
}
