//! The flags about being a member of the group, and what they mean.

use clap::Args as ClapArgs;
use longshore::config::{GroupProtocol, MembershipSettings};

use super::{Reading, duration};

/// What was typed about membership.
#[derive(Debug, ClapArgs, Default)]
#[command(next_help_heading = "Group")]
pub(crate) struct MembershipArgs {
    /// How to be a member: auto (KIP-848 where the broker has it), consumer (KIP-848) or classic [default: auto]
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) group_protocol: Option<String>,
    /// Classic: who assigns, the best first: range, roundrobin, cooperative-sticky [default: range,cooperative-sticky]
    #[arg(long, value_name = "NAME,...")]
    pub(crate) assignors: Option<String>,
    /// KIP-848: the broker's assignor, such as uniform or range [default: the broker's choice]
    #[arg(long, value_name = "NAME")]
    pub(crate) remote_assignor: Option<String>,
    /// Name of this process that it keeps over restarts: a static member (KIP-345)
    #[arg(long, value_name = "ID")]
    pub(crate) instance_id: Option<String>,
    /// Where this process runs, for assignors that look at that
    #[arg(long, value_name = "RACK")]
    pub(crate) rack: Option<String>,
    /// How long the group waits for a sign of life. KIP-848: the broker says so, and this must not be longer
    /// [default: 45s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) session_timeout: Option<String>,
    /// Classic: how often to give one [default: 3s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) heartbeat_interval: Option<String>,
    /// How long a rebalance may take [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) rebalance_timeout: Option<String>,
    /// How long running tasks of a partition may finish that is to go [default: the rebalance timeout less 10s; 0 where the
    /// whole group would wait]
    #[arg(long, value_name = "DURATION")]
    pub(crate) revoke_grace: Option<String>,
}

pub(super) fn read(from: &mut Reading<'_>, args: &MembershipArgs) -> MembershipSettings {
    let defaults = MembershipSettings::default();
    let text = |from: &Reading<'_>, typed: &Option<String>, flag| {
        from.layers.value(typed.as_ref(), flag).map(|value| value.text)
    };
    let assignors = text(from, &args.assignors, "assignors");
    MembershipSettings {
        group_protocol: from.get(args.group_protocol.as_ref(), "group-protocol", group_protocol).unwrap_or_default(),
        assignors: assignors.map_or(defaults.assignors, |list| list.split(',').map(|a| a.trim().to_owned()).collect()),
        remote_assignor: text(from, &args.remote_assignor, "remote-assignor"),
        instance_id: text(from, &args.instance_id, "instance-id"),
        rack: text(from, &args.rack, "rack"),
        session_timeout: from
            .get(args.session_timeout.as_ref(), "session-timeout", duration)
            .unwrap_or(defaults.session_timeout),
        heartbeat_interval: from
            .get(args.heartbeat_interval.as_ref(), "heartbeat-interval", duration)
            .unwrap_or(defaults.heartbeat_interval),
        rebalance_timeout: from
            .get(args.rebalance_timeout.as_ref(), "rebalance-timeout", duration)
            .unwrap_or(defaults.rebalance_timeout),
        revoke_grace: from.get(args.revoke_grace.as_ref(), "revoke-grace", duration),
    }
}

fn group_protocol(text: &str) -> Result<GroupProtocol, &'static str> {
    match text {
        "auto" => Ok(GroupProtocol::Auto),
        "consumer" => Ok(GroupProtocol::Consumer),
        "classic" => Ok(GroupProtocol::Classic),
        _ => Err("one of auto, consumer, classic"),
    }
}
