//! What the committer looks at: Kafka itself.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    committer::{Log, Seen},
    gather::Gather,
    kafka::{
        wire::{At, Cluster, TopicView},
        with_causes,
    },
    lineage::{EpochEnd, Look},
    record::{LeaderEpoch, Offset},
};

/// Asks Kafka which logs there are under the topics' names.
pub(crate) struct TopicWatch {
    pub(crate) cluster: Cluster,
}

impl Log for TopicWatch {
    async fn look(&self, topics: &[Arc<str>]) -> Result<Vec<Seen>, String> {
        let names: Vec<_> = topics.iter().map(|name| &**name).collect();
        let views = self.cluster.topics(&names).await.map_err(|error| with_causes(&error))?;
        let epochs = |view: &TopicView| {
            let led = view.partitions.iter().filter(|p| p.leader.is_some());
            led.map(|p| (p.partition, p.epoch)).gather()
        };
        let look = |view: TopicView| Look { id: view.id, epochs: epochs(&view) };
        Ok(views.into_iter().map(|view| view.map(|view| view.map(look)).map_err(|error| with_causes(&error))).collect())
    }

    async fn epoch_ends(
        &self,
        topic: &str,
        epochs: &BTreeMap<i32, LeaderEpoch>,
    ) -> Result<BTreeMap<i32, EpochEnd>, String> {
        self.cluster.epoch_ends(topic, epochs).await.map_err(|error| with_causes(&error))
    }

    async fn bounds(&self, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, (Offset, Offset)>, String> {
        let earliest = self.cluster.offsets(topic, partitions, At::Earliest);
        let latest = self.cluster.offsets(topic, partitions, At::Latest);
        let (earliest, latest) = tokio::try_join!(earliest, latest).map_err(|error| with_causes(&error))?;
        Ok(earliest.into_iter().map(|(partition, earliest)| (partition, (earliest, latest[&partition]))).gather())
    }
}
