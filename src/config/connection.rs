//! What is needed to look at a group, without working anything off.

use super::{ConfigErrors, SecuritySettings, check_brokers};
use crate::kafka::wire::{HostPort, Security};

/// Where a group is, and how its brokers are spoken to; checked.
#[derive(Debug, Clone)]
pub struct Connection {
    /// At least one.
    pub(crate) brokers: Vec<HostPort>,
    pub(crate) group: String,
    pub(crate) security: Security,
}

impl Connection {
    /// Checks what says where a group is.
    ///
    /// # Errors
    /// All that is wrong, not just the first.
    pub fn check(brokers: &[String], group: Option<String>, security: &SecuritySettings) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let group = group.filter(|group| !group.trim().is_empty()).unwrap_or_else(|| {
            errors.push("--group (KAFKA_CONSUMER_GROUP) is required".to_owned());
            String::new()
        });
        let brokers = check_brokers(brokers, &mut errors);
        let security = security.check(&mut errors);
        if errors.is_empty() { Ok(Self { brokers, group, security }) } else { Err(ConfigErrors(errors)) }
    }
}
