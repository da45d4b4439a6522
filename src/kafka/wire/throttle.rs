//! PURE: how long a broker asks to be left alone (KIP-13, KIP-124).
//!
//! A broker answers a client that is over its quota at once, and says for how long it will then not listen to that
//! connection (KIP-219). To ask all the same looks like a broker that hangs. So [`Cluster`](super::Cluster) waits first, and
//! a call's deadline begins after that.
//!
//! ```text
//!   ask ──▶ answer, throttle_time_ms = n ──▶ muted for n ms ──▶ the next one asks
//! ```

use std::time::Duration;

use kafka_protocol::messages::{
    ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse, CreateTopicsResponse, DescribeGroupsResponse,
    FindCoordinatorResponse, HeartbeatResponse, InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse,
    ListOffsetsResponse, MetadataResponse, OffsetCommitResponse, OffsetFetchResponse, OffsetForLeaderEpochResponse,
    ProduceResponse, SyncGroupResponse,
};

/// The longest that a broker is taken at its word. One that does not listen for longer than this is asked in vain, and then
/// over a new connection.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// A response that may say how long to wait before the next request.
pub(super) trait Throttled {
    /// In milliseconds; 0 for not at all.
    fn throttle_time_ms(&self) -> i32;

    /// How long to wait, within reason.
    fn throttle(&self) -> Option<Duration> {
        let ms = u64::try_from(self.throttle_time_ms()).unwrap_or(0);
        (ms > 0).then(|| Duration::from_millis(ms).min(LONGEST))
    }
}

macro_rules! throttled {
    ($($response:ty),* $(,)?) => {
        $(impl Throttled for $response {
            fn throttle_time_ms(&self) -> i32 {
                self.throttle_time_ms
            }
        })*
    };
}

throttled! {
    ConsumerGroupDescribeResponse,
    ConsumerGroupHeartbeatResponse,
    CreateTopicsResponse,
    DescribeGroupsResponse,
    FindCoordinatorResponse,
    HeartbeatResponse,
    InitProducerIdResponse,
    JoinGroupResponse,
    LeaveGroupResponse,
    ListOffsetsResponse,
    MetadataResponse,
    OffsetCommitResponse,
    OffsetFetchResponse,
    OffsetForLeaderEpochResponse,
    ProduceResponse,
    SyncGroupResponse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_waited_for_within_reason() {
        let throttle = |ms| MetadataResponse::default().with_throttle_time_ms(ms).throttle();
        assert_eq!(throttle(0), None);
        assert_eq!(throttle(-1), None);
        assert_eq!(throttle(1_500), Some(Duration::from_millis(1_500)));
        assert_eq!(throttle(i32::MAX), Some(LONGEST));
    }
}
