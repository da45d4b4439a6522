//! PURE. Data that is gone: what it was, why, and what the user wants to follow.
//!
//! A log is not always what it was. Retention or a deletion takes records that nobody has read; a topic is deleted and
//! made anew under the same name; an unclean election cuts a log off; a group's offsets expire. Each is told as a
//! [`DataLoss`], with the exact range, before anything more is committed. What follows is [`OnDataLoss`].
//!
//! | why | `earliest` goes on at | `latest` goes on at |
//! | --- | --- | --- |
//! | [`Deleted`](Why::Deleted) | the first record there is | the end of the log |
//! | [`Truncated`](Why::Truncated) | where the logs part, or the first record where that cannot be known | the end |
//! | [`Recreated`](Why::Recreated) | the first record of the new topic | its end |
//! | [`OffsetExpired`](Why::OffsetExpired) | the first record there is | the end |
//! | [`TopicDeleted`](Why::TopicDeleted) | a topic that is made anew in time | likewise |
//!
//! Deliberately not here: how it is found out (`lineage.rs`), and what a run does about it (`scheduler/lives.rs`).

use std::{fmt, sync::Arc};

use serde::{
    Serialize,
    ser::{SerializeStruct, Serializer},
};

use crate::record::{Offset, TopicId, TopicPartition};

/// What follows when data is gone (`--on-data-loss`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDataLoss {
    /// The run ends with exit code 65.
    #[default]
    Stop,
    /// It goes on with the first record that is there and was not read.
    Earliest,
    /// It goes on with what comes from now on.
    Latest,
}

/// Why data is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Records were deleted before they were read, by retention or by hand.
    Deleted,
    /// The log was cut off, as by an unclean election: what was read is not what it holds now.
    Truncated,
    /// The topic was deleted and made anew.
    Recreated,
    /// The topic was deleted.
    TopicDeleted,
    /// The group has no offset for this partition any more, though it has one for others.
    OffsetExpired,
}

impl Why {
    /// How the summary calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Truncated => "truncated",
            Self::Recreated => "recreated",
            Self::TopicDeleted => "topic_deleted",
            Self::OffsetExpired => "offset_expired",
        }
    }
}

/// Data of one partition that is gone.
///
/// In the summary, as JSON: `topic`, `partition`, `from`, `to`, `why` (as [`Why::name`] calls it), `topic_id`,
/// `new_topic_id`, `log` (`[earliest, latest]`) and `resumed_at`; what is not known is `null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataLoss {
    /// Where.
    pub source: Arc<TopicPartition>,
    /// The first offset that is gone. Of a topic that is gone: the lowest that was not finished. Of an offset that
    /// expired: 0, for where the group stood is not known.
    pub from: Offset,
    /// The last one that is known to be gone; `None` if none is known.
    pub to: Option<Offset>,
    /// Why.
    pub why: Why,
    /// The topic that it was gone from; all zeros if the broker knows no topic ids.
    pub topic_id: TopicId,
    /// The topic that has the name now, if it is another.
    pub new_topic_id: Option<TopicId>,
    /// The first offset of the log and the one after its last record, when this was found out.
    pub log: Option<(Offset, Offset)>,
    /// Where the run goes on; `None` if it does not.
    pub resumed_at: Option<Offset>,
}

impl DataLoss {
    /// Whether a commit after this could do harm, because what was read is not what the log holds.
    #[must_use]
    pub fn forbids_commits(&self) -> bool {
        matches!(self.why, Why::Truncated | Why::Recreated | Why::TopicDeleted)
    }
}

impl fmt::Display for DataLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, from, to, why, topic_id, new_topic_id, log, resumed_at } = self;
        let range = match to {
            Some(to) if to == from => format!("offset {from} is gone"),
            Some(to) => format!("offsets {from} to {to} are gone"),
            None => format!("nothing from offset {from} on is known to be gone"),
        };
        write!(f, "{source}: ")?;
        let (earliest, latest) = log.unwrap_or_default();
        match why {
            Why::Deleted => write!(f, "{range}, deleted before they were read; the log now begins at {earliest}")?,
            Why::Truncated => {
                let beyond = to.map_or(*from, Offset::next);
                if beyond > latest {
                    write!(f, "offset {beyond} is beyond the end of the log, {latest}: ")?;
                }
                write!(f, "the log was cut off (an unclean election), or the topic made anew: {range}")?;
            }
            Why::Recreated => {
                let topic = &source.topic;
                write!(f, "topic {topic} was deleted and made anew")?;
                if let Some(now) = new_topic_id {
                    write!(f, " (topic id {now}, was {topic_id})")?;
                }
                write!(f, ": {range}, unfinished")?;
            }
            Why::TopicDeleted => {
                write!(f, "topic {} was deleted (topic id {topic_id}): {range}, unfinished", source.topic)?;
            }
            Why::OffsetExpired => {
                write!(
                    f,
                    "the group has no offset any more, though it has one for others: it expired, or was deleted"
                )?;
                if to.is_some() {
                    write!(f, "; {range}, and how much of that was read is not known")?;
                }
                write!(f, "; the log holds {earliest} to {latest}")?;
            }
        }
        match resumed_at {
            Some(at) => write!(f, "; going on at {at}"),
            None => Ok(()),
        }
    }
}

impl Serialize for DataLoss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offset = |offset: Option<Offset>| offset.map(|offset| offset.0);
        let mut loss = serializer.serialize_struct("DataLoss", 9)?;
        loss.serialize_field("topic", &*self.source.topic)?;
        loss.serialize_field("partition", &self.source.partition)?;
        loss.serialize_field("from", &self.from.0)?;
        loss.serialize_field("to", &offset(self.to))?;
        loss.serialize_field("why", self.why.name())?;
        loss.serialize_field("topic_id", &self.topic_id.to_string())?;
        loss.serialize_field("new_topic_id", &self.new_topic_id.map(|id| id.to_string()))?;
        loss.serialize_field("log", &self.log.map(|(earliest, latest)| [earliest.0, latest.0]))?;
        loss.serialize_field("resumed_at", &offset(self.resumed_at))?;
        loss.end()
    }
}

/// All of them, one after the other, as an error says it.
pub(crate) fn list(losses: &[DataLoss]) -> String {
    /// Of more, only how many there are is said: the summary has them all.
    const MOST: usize = 20;
    let mut said: Vec<_> = losses.iter().take(MOST).map(ToString::to_string).collect();
    if losses.len() > MOST {
        said.push(format!("and {} partitions more", losses.len() - MOST));
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(why: Why, from: i64, to: Option<i64>) -> DataLoss {
        let source = Arc::new(TopicPartition::new("orders", 3));
        let log = Some((Offset(12), Offset(20)));
        let to = to.map(Offset);
        let topic_id = TopicId::default();
        DataLoss { source, from: Offset(from), to, why, topic_id, new_topic_id: None, log, resumed_at: None }
    }

    #[test]
    fn the_range_and_the_reason_are_said() {
        let said = |why, from, to| loss(why, from, to).to_string();
        assert_eq!(
            said(Why::Deleted, 5, Some(11)),
            "orders-3: offsets 5 to 11 are gone, deleted before they were read; the log now begins at 12"
        );
        assert!(said(Why::Truncated, 20, Some(29)).contains("offset 30 is beyond the end of the log, 20"));
        assert!(said(Why::Truncated, 15, Some(15)).contains("offset 15 is gone"));
        assert!(!said(Why::Truncated, 15, Some(15)).contains("beyond"), "the log has grown again");
        assert!(said(Why::OffsetExpired, 0, None).ends_with("the log holds 12 to 20"));
        let resumed = DataLoss { resumed_at: Some(Offset(12)), ..loss(Why::Deleted, 5, Some(11)) };
        assert!(resumed.to_string().ends_with("; going on at 12"));
    }

    #[test]
    fn as_json_it_has_names_that_stay() {
        let json = serde_json::to_value(loss(Why::Recreated, 5, None)).unwrap();
        assert_eq!(
            (json["from"].as_i64(), json["to"].is_null(), json["why"].as_str()),
            (Some(5), true, Some("recreated"))
        );
        assert_eq!(json["log"], serde_json::json!([12, 20]));
    }
}
