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

    pub(crate) fn limit(&self) -> usize {
        self.limit
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

    fn try_take(&self, count: usize) -> bool {
        let fits = |used: usize| (used == 0 || used + count <= self.limit).then_some(used + count);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
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
    fn what_is_larger_than_the_limit_goes_alone() {
        let room = Room::new(10);
        assert!(room.take(11).now_or_never().is_some());
        assert!(room.take(1).now_or_never().is_none());
        room.adjust(11, 9);
        assert!(room.take(1).now_or_never().is_some());
    }
}
