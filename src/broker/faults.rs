//! PURE: which requests are to go wrong, and how. Tests say so in advance.
//!
//! Of the faults that fit a request the one that was set first is taken, and only that one.

use std::{sync::Arc, time::Duration};

use kafka_protocol::{error::ResponseError, messages::ApiKey};

use super::NodeId;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Not carried out, and answered with this error.
    Error(ResponseError),
    /// Carried out at once, and answered later.
    Delay(Duration),
    /// Carried out, and the connection closed after this many bytes of the answer.
    CloseAfter(usize),
    /// Not carried out, and the connection closed.
    Disconnect,
    /// Not carried out and never answered, nor is anything else on this connection.
    BlackHole,
}

/// Which requests are meant. What is `None` fits all.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) api: Option<ApiKey>,
    pub(super) topic: Option<Arc<str>>,
    pub(super) partition: Option<i32>,
    pub(super) client_id: Option<String>,
    pub(super) node: Option<NodeId>,
}

impl Filter {
    /// Whether a partition, or a whole topic where `partition` is `None`, is meant.
    pub(super) fn covers(&self, topic: &str, partition: Option<i32>) -> bool {
        let same_topic = self.topic.as_ref().is_none_or(|wanted| **wanted == *topic);
        let same_partition = match (self.partition, partition) {
            (Some(wanted), Some(partition)) => wanted == partition,
            _ => true,
        };
        same_topic && same_partition
    }

    fn names_a_place(&self) -> bool {
        self.topic.is_some() || self.partition.is_some()
    }
}

/// A request, as far as faults look at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) api: ApiKey,
    pub(super) client_id: &'a str,
    pub(super) node: NodeId,
    /// The topics and partitions that the request names.
    pub(super) places: &'a [(Arc<str>, Option<i32>)],
}

/// Names a fault, to look after it or to clear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FaultId(u64);

#[derive(Debug)]
struct Armed {
    id: FaultId,
    filter: Filter,
    action: Action,
    /// `None` for until it is cleared.
    left: Option<u32>,
}

/// The faults that are set. Those that are used up are forgotten.
#[derive(Debug, Default)]
pub(super) struct FaultTable {
    armed: Vec<Armed>,
    next: u64,
}

impl FaultTable {
    pub(super) fn arm(&mut self, filter: Filter, action: Action, times: Option<u32>) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        if times != Some(0) {
            self.armed.push(Armed { id, filter, action, left: times });
        }
        id
    }

    pub(super) fn is_armed(&self, id: FaultId) -> bool {
        self.armed.iter().any(|fault| fault.id == id)
    }

    pub(super) fn clear(&mut self, id: FaultId) {
        self.armed.retain(|fault| fault.id != id);
    }

    pub(super) fn clear_all(&mut self) {
        self.armed.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// What becomes of this request, and for which places.
    pub(super) fn take(&mut self, asked: &Asked<'_>) -> Option<(Action, Filter)> {
        let at = self.armed.iter().position(|fault| fits(&fault.filter, asked))?;
        let fault = &mut self.armed[at];
        let found = (fault.action, fault.filter.clone());
        if let Some(left) = &mut fault.left {
            *left -= 1;
            if *left == 0 {
                self.armed.remove(at);
            }
        }
        Some(found)
    }
}

fn fits(filter: &Filter, asked: &Asked<'_>) -> bool {
    filter.api.is_none_or(|api| api == asked.api)
        && filter.node.is_none_or(|node| node == asked.node)
        && filter.client_id.as_ref().is_none_or(|id| id == asked.client_id)
        && (!filter.names_a_place() || asked.places.iter().any(|(topic, partition)| filter.covers(topic, *partition)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: Action = Action::Error(ResponseError::NotLeaderOrFollower);

    fn take(table: &mut FaultTable, api: ApiKey, topic: &str, partition: i32) -> Option<Action> {
        let places = [(Arc::from(topic), Some(partition))];
        let asked = Asked { api, client_id: "c", node: NodeId(1), places: &places };
        table.take(&asked).map(|(action, _)| action)
    }

    #[test]
    fn a_fault_is_used_up() {
        let mut table = FaultTable::default();
        let filter = Filter { api: Some(ApiKey::Fetch), ..Filter::default() };
        let id = table.arm(filter, ERROR, Some(2));
        assert_eq!(take(&mut table, ApiKey::Produce, "t", 0), None);
        assert_eq!(take(&mut table, ApiKey::Fetch, "t", 0), Some(ERROR));
        assert!(table.is_armed(id));
        assert_eq!(take(&mut table, ApiKey::Fetch, "t", 0), Some(ERROR));
        assert!(!table.is_armed(id));
        assert_eq!(take(&mut table, ApiKey::Fetch, "t", 0), None);
    }

    #[test]
    fn a_fault_without_end_lasts_until_it_is_cleared() {
        let mut table = FaultTable::default();
        let id = table.arm(Filter::default(), Action::BlackHole, None);
        table.arm(Filter::default(), ERROR, None);
        for _ in 0..10 {
            assert_eq!(take(&mut table, ApiKey::Fetch, "t", 0), Some(Action::BlackHole), "the first set is taken");
        }
        table.clear(id);
        assert_eq!(take(&mut table, ApiKey::Fetch, "t", 0), Some(ERROR));
        table.clear_all();
        assert_eq!(take(&mut table, ApiKey::Fetch, "t", 0), None);
    }

    #[test]
    fn a_fault_keeps_to_its_place_and_client() {
        let mut table = FaultTable::default();
        table.arm(Filter { topic: Some("t".into()), partition: Some(1), ..Filter::default() }, ERROR, None);
        assert_eq!(take(&mut table, ApiKey::Fetch, "t", 0), None);
        assert_eq!(take(&mut table, ApiKey::Fetch, "u", 1), None);
        assert_eq!(take(&mut table, ApiKey::Fetch, "t", 1), Some(ERROR));
        table.clear_all();
        table.arm(Filter { client_id: Some("other".into()), ..Filter::default() }, ERROR, None);
        table.arm(Filter { node: Some(NodeId(2)), ..Filter::default() }, ERROR, None);
        assert_eq!(take(&mut table, ApiKey::Fetch, "t", 1), None);
        let asked = Asked { api: ApiKey::ListGroups, client_id: "other", node: NodeId(1), places: &[] };
        assert!(table.take(&asked).is_some());
    }
}
