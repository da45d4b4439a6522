//! What is done for each message: the [`Task`], its [`Answer`] and its [`Failure`].

#[cfg(unix)]
pub mod exec;
mod failure;
mod sleep;

use bytes::Bytes;

#[cfg(unix)]
pub use self::exec::Exec;
pub use self::{
    failure::{Advice, Failure},
    sleep::Sleep,
};
use crate::record::{Header, Record};

/// A blocking piece of work, run once for each message on a thread of the pool.
///
/// It may take as long as it likes: fetching, committing and heartbeats go on beside it. It may panic: that is a failure
/// of this one message. It runs at least once for each message; after a crash it may run again for what was unfinished.
///
/// Every `Fn(&Record) -> Result<Answer, Failure>` is a task:
///
/// ```
/// use longshore::{Answer, Failure, Record, Task};
///
/// fn task() -> impl Task {
///     |record: &Record| {
///         let value = record.value.as_deref().ok_or("a tombstone has nothing to count")?;
///         Ok::<_, Failure>(Answer::value(value.len().to_string()))
///     }
/// }
/// # task();
/// ```
pub trait Task: Send + Sync + 'static {
    /// Does the work for `record`. The value is `None` for a tombstone.
    ///
    /// # Errors
    /// A [`Failure`] when the work could not be done. The message is then dead-lettered or answered with its failure.
    fn run(&self, record: &Record) -> Result<Answer, Failure>;
}

impl<F> Task for F
where
    F: Fn(&Record) -> Result<Answer, Failure> + Send + Sync + 'static,
{
    fn run(&self, record: &Record) -> Result<Answer, Failure> {
        self(record)
    }
}

/// What a task that succeeded has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: no answer is wanted for this message.
    None,
    /// The record to be written to the reply topic, under the key of the request.
    Reply {
        /// Its value.
        value: Bytes,
        /// Headers that go before Longshore's own.
        headers: Vec<Header>,
    },
}

impl Answer {
    /// An answer with this value and no headers of its own.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self::Reply { value: value.into(), headers: Vec::new() }
    }
}

/// What a well-formed message is (`--format`). Tombstones are well-formed in every format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The value is one JSON text (RFC 8259) in UTF-8.
    #[default]
    Json,
    /// The value is UTF-8.
    Utf8,
    /// The value is anything.
    Bytes,
}

impl Format {
    /// Says what is wrong with the value of `record`, without quoting any of it.
    ///
    /// # Errors
    /// The reason why it is malformed.
    pub fn check(self, record: &Record) -> Result<(), String> {
        if let Some(damage) = &record.damage {
            return Err(damage.reason.clone());
        }
        let Some(value) = record.value.as_deref() else { return Ok(()) };
        match self {
            Self::Bytes => Ok(()),
            Self::Utf8 => utf8(value).map(drop),
            Self::Json => serde_json::from_str::<serde::de::IgnoredAny>(utf8(value)?)
                .map(drop)
                .map_err(|error| format!("not JSON: {error}")),
        }
    }
}

fn utf8(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value).map_err(|error| format!("not UTF-8: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    #[track_caller]
    fn check(format: Format, value: &[u8], expected: Result<(), &str>) {
        let checked = format.check(&record(0, Some(value)));
        assert_eq!(
            checked.as_ref().map_err(|e| &e[..e.find(':').unwrap_or(e.len())]),
            expected.as_ref().map_err(|e| *e)
        );
    }

    #[test]
    fn json_is_one_text_in_utf8() {
        check(Format::Json, br#"{"a": [1, 2, null]}"#, Ok(()));
        check(Format::Json, b"17", Ok(()));
        check(Format::Json, b"", Err("not JSON"));
        check(Format::Json, b"{} {}", Err("not JSON"));
        check(Format::Json, b"\"\xff\"", Err("not UTF-8"));
        check(Format::Json, "[".repeat(100_000).as_bytes(), Err("not JSON"));
    }

    #[test]
    fn utf8_and_bytes() {
        check(Format::Utf8, "grün".as_bytes(), Ok(()));
        check(Format::Utf8, b"\xc3", Err("not UTF-8"));
        check(Format::Bytes, b"\xc3", Ok(()));
    }

    #[test]
    fn tombstones_are_well_formed() {
        for format in [Format::Json, Format::Utf8, Format::Bytes] {
            assert_eq!(format.check(&record(0, None)), Ok(()));
        }
    }
}
