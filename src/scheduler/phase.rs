//! How far a run has come.

use std::time::Instant;

/// ```text
///   Running ──drain──▶ Draining ──grace over──▶ Closing
///      └──────────stop without commits──────────▶ Over
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Tasks start.
    Running,
    /// No task starts; those that run may finish, and be committed, until then.
    Draining { until: Instant },
    /// Tasks that still run are not waited for; the last commit may take until then.
    Closing { until: Instant },
    /// Nothing is waited for and nothing is committed.
    Over,
}

impl Phase {
    pub(super) fn is_running(self) -> bool {
        self == Self::Running
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Draining { until } | Self::Closing { until } => Some(until),
            Self::Running | Self::Over => None,
        }
    }
}
