//! What a group is, as its coordinator sees it.

use std::ffi::CString;

use rdkafka_sys as native;
use rdkafka_sys::{rd_kafka_admin_op_t, rd_kafka_consumer_group_type_t, rd_kafka_event_t};

use super::admin::{LONGEST_TIMEOUT, Options};
use super::client::Client;
use super::error::{KafkaError, text};
use super::queue::Queue;
use super::raw;

/// A group, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupInfo {
    /// It is a KIP-848 group. One that does not exist is not.
    pub(crate) is_consumer: bool,
    /// The assignor that its members agreed on, or that the broker uses; empty if there is none.
    pub(crate) assignor: String,
    /// What its members call themselves (`client.id`).
    pub(crate) members: Vec<String>,
}

impl Client {
    /// Asks what a group is. Answered by [`NativeEvent::Group`](super::NativeEvent::Group) on `queue`, perhaps late or
    /// never: the timeout is the longest for the reason that [`Client::list_group_offsets`] gives.
    pub(crate) fn describe_group(&self, group: &str, queue: &Queue) -> Result<(), KafkaError> {
        let group = CString::new(group).map_err(|_| KafkaError::inner_nul(group))?;
        let operation = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let options = Options::new(self, operation, 0, LONGEST_TIMEOUT)?;
        let mut names = [group.as_ptr()];
        // SAFETY: client, options and queue are live; the one name is terminated, and copied.
        unsafe {
            native::rd_kafka_DescribeConsumerGroups(
                self.as_ptr(),
                names.as_mut_ptr(),
                names.len(),
                options.as_ptr(),
                queue.as_ptr(),
            );
        }
        Ok(())
    }
}

/// Reads the answer to [`Client::describe_group`].
///
/// # Safety
/// `event` is live, of that kind, and without an error as a whole.
pub(super) unsafe fn described(event: *mut rd_kafka_event_t) -> Result<GroupInfo, KafkaError> {
    // SAFETY: by this function's contract; the groups, and what they point to, live as long as the event, there are as
    // many as is said, and all of it is copied. An error within a group is its own, and only read.
    unsafe {
        let result = native::rd_kafka_event_DescribeConsumerGroups_result(event);
        let mut count = 0;
        let groups = native::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        if count != 1 {
            return Err(KafkaError::new(super::codes::_FAIL, "the broker said nothing of the group"));
        }
        let group = *groups;
        let error = native::rd_kafka_ConsumerGroupDescription_error(group);
        if !error.is_null() {
            let message = text(native::rd_kafka_error_string(error));
            return Err(KafkaError { code: raw::rd_kafka_error_code(error), message });
        }
        let kind = native::rd_kafka_ConsumerGroupDescription_type(group);
        let members = native::rd_kafka_ConsumerGroupDescription_member_count(group);
        let name = |index| {
            let member = native::rd_kafka_ConsumerGroupDescription_member(group, index);
            text(native::rd_kafka_MemberDescription_client_id(member))
        };
        Ok(GroupInfo {
            is_consumer: kind == rd_kafka_consumer_group_type_t::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER,
            assignor: text(native::rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
            members: (0..members).map(name).collect(),
        })
    }
}
