//! A look at the topics: their ids, how many partitions they have, and which match the pattern that we subscribe by.

use std::{collections::BTreeSet, sync::Arc};

use crate::{config::Config, gather::Gather, kafka::wire::Cluster, membership::Topics};

/// What a look at the topics has shown.
pub(super) struct Looked {
    pub(super) topics: Topics,
    /// What is subscribed to, where that is by a pattern.
    pub(super) matching: Option<BTreeSet<Arc<str>>>,
}

/// Looks at these topics, or at all where a pattern is to match them.
///
/// # Errors
/// Why they cannot be seen just now.
pub(super) async fn look(cluster: &Cluster, config: &Config, watched: BTreeSet<Arc<str>>) -> Result<Looked, String> {
    let known = |partitions: usize| i32::try_from(partitions).unwrap_or(i32::MAX);
    if let Some(pattern) = &config.topic_pattern {
        let all = cluster.all_topics().await.map_err(|error| error.to_string())?;
        let written = [&config.reply_topic, &config.dead_letter_topic];
        let is_ours = |name: &str| written.iter().any(|ours| ours.as_deref() == Some(name));
        let mut matching: BTreeSet<Arc<str>> = config.topics.iter().map(|name| name.as_str().into()).gather();
        let matches = all.iter().filter(|t| !t.is_internal && !is_ours(&t.name) && pattern.is_match(&t.name));
        matching.extend(matches.map(|topic| topic.name.clone()));
        let topics = all.into_iter().map(|topic| (topic.name, (topic.view.id, known(topic.view.partitions.len()))));
        return Ok(Looked { topics: topics.gather(), matching: Some(matching) });
    }
    let names: Vec<_> = watched.iter().map(|name| &**name).collect();
    let views = cluster.topics(&names).await.map_err(|error| error.to_string())?;
    let topics = watched.iter().zip(views).filter_map(|(name, view)| {
        let view = view.ok()??;
        Some((Arc::clone(name), (view.id, known(view.partitions.len()))))
    });
    Ok(Looked { topics: topics.gather(), matching: None })
}
