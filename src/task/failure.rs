//! Why a task could not do its work, and what that says about trying again.

use std::{fmt, time::Duration};

/// Why a task could not do its work. The text goes into the log, the failure answer and the dead letter, so it should not
/// hold what must not be seen there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    error: String,
    advice: Advice,
}

/// What a failure says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Advice {
    /// It may go well the next time: as often, and after such times, as the run's retries say.
    #[default]
    Retry,
    /// The same, but not before this time has gone by.
    After(Duration),
    /// It will never go well: trying again is of no use.
    Permanent,
    /// It is not the message that is wrong, but how the task is set up: there is no such program, or no such address.
    /// Where nothing succeeds, nothing is set aside because of it.
    Setup,
}

impl Failure {
    /// The most that is kept of an error's text, in bytes.
    pub const MAX_ERROR: usize = 1024;

    /// A failure that says `error`, of which the first [`MAX_ERROR`](Self::MAX_ERROR) bytes are kept.
    pub fn new(error: impl fmt::Display) -> Self {
        let mut error = error.to_string();
        if error.len() > Self::MAX_ERROR {
            let end = (0..=Self::MAX_ERROR).rev().find(|i| error.is_char_boundary(*i)).unwrap_or(0);
            error.truncate(end);
            error.push('…');
        }
        Self { error, advice: Advice::Retry }
    }

    /// A failure that no other attempt would mend.
    pub fn permanent(error: impl fmt::Display) -> Self {
        Self::new(error).with_advice(Advice::Permanent)
    }

    /// The same failure, with other advice.
    #[must_use]
    pub fn with_advice(self, advice: Advice) -> Self {
        Self { advice, ..self }
    }

    /// What it says about trying again.
    #[must_use]
    pub fn advice(&self) -> Advice {
        self.advice
    }

    /// What went wrong.
    #[must_use]
    pub fn error(&self) -> &str {
        &self.error
    }

    /// What went wrong.
    #[must_use]
    pub fn into_error(self) -> String {
        self.error
    }
}

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_errors_are_cut_at_a_character() {
        let failure = Failure::new("é".repeat(2000));
        assert_eq!(failure.error().chars().filter(|c| *c == 'é').count(), Failure::MAX_ERROR / 2);
        assert!(failure.error().ends_with('…'));
    }
}
