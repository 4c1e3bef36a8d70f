//! Kafka's numbers, by name: request kinds and error codes, as far as tests use them.

/// A kind of request in Kafka's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ApiKey(pub i16);

#[allow(missing_docs, reason = "each is named as the request that it stands for")]
impl ApiKey {
    pub const PRODUCE: Self = Self(0);
    pub const FETCH: Self = Self(1);
    pub const LIST_OFFSETS: Self = Self(2);
    pub const METADATA: Self = Self(3);
    pub const OFFSET_COMMIT: Self = Self(8);
    pub const OFFSET_FETCH: Self = Self(9);
    pub const FIND_COORDINATOR: Self = Self(10);
    pub const JOIN_GROUP: Self = Self(11);
    pub const HEARTBEAT: Self = Self(12);
    pub const LEAVE_GROUP: Self = Self(13);
    pub const SYNC_GROUP: Self = Self(14);
    pub const CONSUMER_GROUP_HEARTBEAT: Self = Self(68);
}

#[allow(missing_docs, reason = "each is named as Kafka names the error that it stands for")]
mod errors {
    pub const OFFSET_OUT_OF_RANGE: i32 = 1;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i32 = 3;
    pub const LEADER_NOT_AVAILABLE: i32 = 5;
    pub const NOT_LEADER_OR_FOLLOWER: i32 = 6;
    pub const REQUEST_TIMED_OUT: i32 = 7;
    pub const MESSAGE_TOO_LARGE: i32 = 10;
    pub const OFFSET_METADATA_TOO_LARGE: i32 = 12;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i32 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i32 = 15;
    pub const NOT_COORDINATOR: i32 = 16;
    pub const ILLEGAL_GENERATION: i32 = 22;
    pub const UNKNOWN_MEMBER_ID: i32 = 25;
    pub const REBALANCE_IN_PROGRESS: i32 = 27;
    pub const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
    pub const GROUP_AUTHORIZATION_FAILED: i32 = 30;
    pub const TOPIC_ALREADY_EXISTS: i32 = 36;
    pub const INVALID_REPLICATION_FACTOR: i32 = 38;
    pub const INVALID_REQUEST: i32 = 42;
    pub const FENCED_LEADER_EPOCH: i32 = 74;
    pub const UNKNOWN_LEADER_EPOCH: i32 = 75;
    pub const GROUP_MAX_SIZE_REACHED: i32 = 81;
    pub const FENCED_INSTANCE_ID: i32 = 82;
    pub const FENCED_MEMBER_EPOCH: i32 = 110;
    pub const STALE_MEMBER_EPOCH: i32 = 113;
    /// The client's own: it gave up waiting.
    pub const LOCAL_TIMED_OUT: i32 = -185;
}
pub use errors::*;
