//! How to be a member of the group (`--assign group`): as given, and as checked.

use std::{sync::Arc, time::Duration};

use crate::membership::{self, Assignor};

/// By which protocol to be a member of the group (`--group-protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// KIP-848 where the broker speaks it, else the classic one.
    #[default]
    Auto,
    /// KIP-848 (Kafka 4.0 and newer).
    Consumer,
    /// The one in which the members assign.
    Classic,
}

/// How to be a member of the group, as it was given. The fields are named after the flags.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct MembershipSettings {
    pub group_protocol: GroupProtocol,
    /// By their Kafka names, the best first: `range`, `roundrobin`, `cooperative-sticky`.
    pub assignors: Vec<String>,
    pub remote_assignor: Option<String>,
    pub instance_id: Option<String>,
    pub rack: Option<String>,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub rebalance_timeout: Duration,
    pub revoke_grace: Option<Duration>,
}

impl Default for MembershipSettings {
    fn default() -> Self {
        Self {
            group_protocol: GroupProtocol::default(),
            assignors: ["range", "cooperative-sticky"].map(str::to_owned).into(),
            remote_assignor: None,
            instance_id: None,
            rack: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(300),
            revoke_grace: None,
        }
    }
}

/// What a rebalance leaves of its timeout, for the last commit.
const SPARE: Duration = Duration::from_secs(10);

/// How to be a member of the group, checked.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    settings: membership::Settings,
    revoke_grace: Option<Duration>,
}

impl Membership {
    /// For the member that this process is: of an id of its own.
    pub(crate) fn settings(&self) -> membership::Settings {
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
        membership::Settings { member: id.to_string().into(), ..self.settings.clone() }
    }

    pub(crate) fn session_timeout(&self) -> Duration {
        self.settings.session_timeout
    }

    pub(crate) fn rebalance_timeout(&self) -> Duration {
        self.settings.rebalance_timeout
    }

    /// How long what runs of a partition may take that is to go. Where the whole group would wait for it, no time at all.
    pub(crate) fn revoke_grace(&self, eager: bool) -> Duration {
        let patient = if eager { Duration::ZERO } else { self.rebalance_timeout().saturating_sub(SPARE) };
        self.revoke_grace.unwrap_or(patient)
    }
}

impl MembershipSettings {
    /// What was said and means nothing where partitions are fixed.
    pub(super) fn of_no_use(&self) -> impl Iterator<Item = String> {
        let said = [
            ("--instance-id", self.instance_id.is_some()),
            ("--rack", self.rack.is_some()),
            ("--remote-assignor", self.remote_assignor.is_some()),
            ("--revoke-grace", self.revoke_grace.is_some()),
        ];
        said.into_iter().filter(|(_, is_said)| *is_said).map(|(flag, _)| {
            format!("{flag} is for members of a group, and the partitions are fixed here (--assign, --offsets)")
        })
    }

    pub(super) fn check(self, errors: &mut Vec<String>) -> Membership {
        let known = |name: &String| match Assignor::of(name) {
            Some(assignor) => Some(assignor),
            None => {
                errors.push(format!("--assignors '{name}': one of range, roundrobin, cooperative-sticky"));
                None
            }
        };
        let assignors: Vec<_> = self.assignors.iter().filter_map(known).collect();
        if self.assignors.is_empty() {
            errors.push("--assignors names none".to_owned());
        }
        let times = [
            ("--session-timeout", self.session_timeout, Duration::from_secs(1)),
            ("--heartbeat-interval", self.heartbeat_interval, Duration::from_millis(100)),
            ("--rebalance-timeout", self.rebalance_timeout, self.session_timeout),
        ];
        for (flag, time, least) in times {
            if time > super::LONGEST || time < least {
                errors.push(format!("{flag} must be {least:?} or more, and at most 365 days"));
            }
        }
        if self.heartbeat_interval * 2 > self.session_timeout {
            errors.push("--heartbeat-interval must be at most half of --session-timeout: a third is usual".to_owned());
        }
        if self.revoke_grace.is_some_and(|grace| grace > self.rebalance_timeout.saturating_sub(SPARE)) {
            errors.push(format!("--revoke-grace must be at least {SPARE:?} shorter than --rebalance-timeout"));
        }
        for (flag, name) in [("--instance-id", &self.instance_id), ("--rack", &self.rack)] {
            if name.as_ref().is_some_and(String::is_empty) {
                errors.push(format!("{flag} is empty"));
            }
        }
        let text = |text: Option<String>| text.map(Arc::<str>::from);
        let settings = membership::Settings {
            protocol: match self.group_protocol {
                GroupProtocol::Auto => membership::GroupProtocol::Auto,
                GroupProtocol::Consumer => membership::GroupProtocol::Consumer,
                GroupProtocol::Classic => membership::GroupProtocol::Classic,
            },
            assignors,
            server_assignor: text(self.remote_assignor),
            instance: text(self.instance_id),
            rack: text(self.rack),
            session_timeout: self.session_timeout,
            rebalance_timeout: self.rebalance_timeout,
            heartbeat_interval: self.heartbeat_interval,
            ..membership::Settings::new("".into())
        };
        Membership { settings, revoke_grace: self.revoke_grace }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_waits_for_us_is_not_kept_waiting() {
        let checked = MembershipSettings::default().check(&mut Vec::new());
        assert_eq!(checked.revoke_grace(true), Duration::ZERO);
        assert_eq!(checked.revoke_grace(false), Duration::from_secs(290));
        let said = MembershipSettings { revoke_grace: Some(Duration::from_secs(7)), ..Default::default() };
        let said = said.check(&mut Vec::new());
        assert_eq!(
            (said.revoke_grace(true), said.revoke_grace(false)),
            (Duration::from_secs(7), Duration::from_secs(7))
        );
    }

    #[test]
    fn times_that_contradict_each_other_are_told() {
        let mut errors = Vec::new();
        let settings = MembershipSettings {
            session_timeout: Duration::from_secs(4),
            rebalance_timeout: Duration::from_secs(2),
            revoke_grace: Some(Duration::from_secs(9)),
            assignors: vec!["sticky".to_owned()],
            ..Default::default()
        };
        settings.check(&mut errors);
        let expected =
            ["--assignors 'sticky'", "--rebalance-timeout must be 4s", "--heartbeat-interval", "--revoke-grace"];
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        assert!(errors.iter().zip(expected).all(|(error, expected)| error.starts_with(expected)), "{errors:#?}");
    }
}
