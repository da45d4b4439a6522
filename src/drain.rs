//! How a run is asked to end: a [`Drain`] asks, a [`Watch`] is asked.

use tokio::sync::watch;

/// Asks a run to end: no new task starts, what runs may finish within the grace time, and the last commit is made.
///
/// Cloned at will. A run does not end because its last `Drain` was dropped.
#[derive(Debug, Clone)]
pub struct Drain {
    asked: watch::Sender<bool>,
}

/// What the engine looks at.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    asked: watch::Receiver<bool>,
}

/// A pair of the two.
pub(crate) fn channel() -> (Drain, Watch) {
    let (sender, receiver) = watch::channel(false);
    (Drain { asked: sender }, Watch { asked: receiver })
}

impl Drain {
    /// Asks for it. To ask twice changes nothing.
    pub fn drain(&self) {
        self.asked.send_replace(true);
    }
}

impl Watch {
    /// Waits until somebody asks; for ever, if nobody can any more.
    pub(crate) async fn asked(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn asked_once_is_asked_for_good() {
        let (drain, mut watch) = channel();
        assert!(watch.asked().now_or_never().is_none());
        drain.clone().drain();
        drain.drain();
        assert!(watch.asked().now_or_never().is_some());
        drop(drain);
        assert!(watch.asked().now_or_never().is_some());
    }

    #[test]
    fn a_dropped_handle_asks_for_nothing() {
        let (drain, mut watch) = channel();
        drop(drain);
        assert!(watch.asked().now_or_never().is_none());
    }
}
