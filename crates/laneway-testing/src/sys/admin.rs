//! The native administration calls: each is sent, and its answer awaited.

use std::ffi::{CString, c_char};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;
use rdkafka_sys as rd;

use super::client::{Client, Kind, c_string, check, kafka_error, millis, owned};
use super::list::{Element, List, element, elements};
use crate::Error;
use crate::admin::{GroupDescription, GroupKind, Member, Operation, Permission, Resource};

/// A client for administration.
pub(crate) struct AdminClient {
    client: Client,
    timeout: Duration,
}

/// The answer to a call.
struct Answer(NonNull<rd::rd_kafka_event_t>);

impl Answer {
    fn raw(&self) -> *mut rd::rd_kafka_event_t {
        self.0.as_ptr()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: ours, and destroyed once.
        unsafe { rd::rd_kafka_event_destroy(self.raw()) };
    }
}

type Options = *mut rd::rd_kafka_AdminOptions_t;
type Queue = *mut rd::rd_kafka_queue_t;

impl AdminClient {
    pub(crate) fn new(properties: &[(&str, &str)], timeout: Duration) -> Result<Self, Error> {
        Ok(Self { client: Client::new(Kind::Producer, properties, 0)?, timeout })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a call with `send` and waits for its answer; `what` says what was asked.
    fn ask(&self, what: &str, send: impl FnOnce(Options, Queue)) -> Result<Answer, Error> {
        let deadline = Instant::now() + self.timeout + Duration::from_secs(2);
        // SAFETY: client, options and queue are valid; the last two are ours, and given back once, after the
        // call, which copies the options and holds the queue as long as it needs it.
        unsafe {
            let options = rd::rd_kafka_AdminOptions_new(
                self.client.raw(),
                rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ANY,
            );
            let queue = rd::rd_kafka_queue_new(self.client.raw());
            // The longest there is: what times out there before a coordinator is found ends the process when it is
            // found (laneway's `sys/admin.rs`). Here it is waited for no longer than `deadline`.
            let longest = Duration::from_secs(3_600);
            rd::rd_kafka_AdminOptions_set_request_timeout(options, millis(longest), ptr::null_mut(), 0);
            send(options, queue);
            let mut event: *mut rd::rd_kafka_event_t = ptr::null_mut();
            while event.is_null() && Instant::now() < deadline {
                event = rd::rd_kafka_queue_poll(queue, 100);
            }
            rd::rd_kafka_AdminOptions_destroy(options);
            rd::rd_kafka_queue_destroy(queue);
            let answer = NonNull::new(event).map(Answer).ok_or_else(|| {
                Error::with_code(format!("{what}: no answer"), crate::code::LOCAL_TIMED_OUT)
            })?;
            let err = rd::rd_kafka_event_error(answer.raw());
            if err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                let said = owned(rd::rd_kafka_event_error_string(answer.raw()));
                return Err(kafka_error(err, &format!("{what}: {said}")));
            }
            Ok(answer)
        }
    }

    pub(crate) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replicas: &[Vec<i32>],
        configs: &[(&str, &str)],
    ) -> Result<(), Error> {
        let what = format!("topic {name} with {partitions} partitions");
        let c_name = c_string(name)?;
        let configs = c_pairs(configs)?;
        let mut said = [0u8; 256];
        // SAFETY: strings end in NUL; the new topic is ours, and destroyed once after the call.
        let answer = unsafe {
            let mut topic = rd::rd_kafka_NewTopic_new(
                c_name.as_ptr(),
                partitions,
                -1,
                said.as_mut_ptr().cast(),
                said.len(),
            );
            if topic.is_null() {
                return Err(Error::new(format!(
                    "{what} refused: a name and 1 to 100,000 partitions are needed"
                )));
            }
            for (partition, nodes) in (0i32..).zip(replicas) {
                let mut nodes = nodes.clone();
                let (ids, count) = (nodes.as_mut_ptr(), nodes.len());
                let set = rd::rd_kafka_NewTopic_set_replica_assignment(
                    topic,
                    partition,
                    ids,
                    count,
                    ptr::null_mut(),
                    0,
                );
                if let Err(error) = check(set, || format!("{what}: replicas of partition {partition}")) {
                    rd::rd_kafka_NewTopic_destroy(topic);
                    return Err(error);
                }
            }
            for (key, value) in &configs {
                rd::rd_kafka_NewTopic_set_config(topic, key.as_ptr(), value.as_ptr());
            }
            let answer = self.ask(&what, |options, queue| {
                rd::rd_kafka_CreateTopics(self.client.raw(), &mut topic, 1, options, queue);
            });
            rd::rd_kafka_NewTopic_destroy(topic);
            answer?
        };
        // SAFETY: the event is a result of this call.
        unsafe {
            let result = rd::rd_kafka_event_CreateTopics_result(answer.raw());
            topic_results(&what, |count| rd::rd_kafka_CreateTopics_result_topics(result, count))
        }
    }

    pub(crate) fn create_acl(&self, permission: &Permission) -> Result<(), Error> {
        let what = format!("{permission:?}");
        let mut binding = Acl::new(rd::rd_kafka_AclBinding_new, permission)?;
        // SAFETY: the binding lives until after the call. The event is a result of this call, whose array has as
        // many elements as it says.
        unsafe {
            let answer = self.ask(&what, |options, queue| {
                rd::rd_kafka_CreateAcls(self.client.raw(), &mut binding.0, 1, options, queue);
            })?;
            let mut count = 0usize;
            let result = rd::rd_kafka_event_CreateAcls_result(answer.raw());
            let results = rd::rd_kafka_CreateAcls_result_acls(result, &mut count);
            for at in 0..count {
                let error = rd::rd_kafka_acl_result_error(*results.add(at));
                if !error.is_null() {
                    return Err(kafka_error(rd::rd_kafka_error_code(error), &what));
                }
            }
            Ok(())
        }
    }

    pub(crate) fn delete_acl(&self, permission: &Permission) -> Result<(), Error> {
        let mut filter = Acl::new(rd::rd_kafka_AclBindingFilter_new, permission)?;
        // SAFETY: the filter lives until after the call.
        unsafe {
            let answer = self.ask(&format!("taking back {permission:?}"), |options, queue| {
                rd::rd_kafka_DeleteAcls(self.client.raw(), &mut filter.0, 1, options, queue);
            });
            answer.map(drop)
        }
    }

    /// Whether the broker that answers knows of a permission, or a denial.
    pub(crate) fn has_acl(&self, permission: &Permission) -> Result<bool, Error> {
        let filter = Acl::new(rd::rd_kafka_AclBindingFilter_new, permission)?;
        // SAFETY: the filter lives until after the call. The event is a result of this call.
        unsafe {
            let answer = self.ask(&format!("looking for {permission:?}"), |options, queue| {
                rd::rd_kafka_DescribeAcls(self.client.raw(), filter.0, options, queue);
            })?;
            let mut count = 0usize;
            let result = rd::rd_kafka_event_DescribeAcls_result(answer.raw());
            rd::rd_kafka_DescribeAcls_result_acls(result, &mut count);
            Ok(count > 0)
        }
    }

    pub(crate) fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let what = format!("deletion of topic {name}");
        let c_name = c_string(name)?;
        // SAFETY: as in `create_topic`.
        unsafe {
            let mut topic = rd::rd_kafka_DeleteTopic_new(c_name.as_ptr());
            let answer = self.ask(&what, |options, queue| {
                rd::rd_kafka_DeleteTopics(self.client.raw(), &mut topic, 1, options, queue);
            });
            rd::rd_kafka_DeleteTopic_destroy(topic);
            let answer = answer?;
            let result = rd::rd_kafka_event_DeleteTopics_result(answer.raw());
            topic_results(&what, |count| rd::rd_kafka_DeleteTopics_result_topics(result, count))
        }
    }

    pub(crate) fn create_partitions(&self, name: &str, total: usize) -> Result<(), Error> {
        let what = format!("topic {name}: growing to {total} partitions");
        let c_name = c_string(name)?;
        // SAFETY: as in `create_topic`.
        unsafe {
            let mut wanted = rd::rd_kafka_NewPartitions_new(c_name.as_ptr(), total, ptr::null_mut(), 0);
            if wanted.is_null() {
                return Err(Error::new(format!("{what} refused: 1 to 100,000 partitions are possible")));
            }
            let answer = self.ask(&what, |options, queue| {
                rd::rd_kafka_CreatePartitions(self.client.raw(), &mut wanted, 1, options, queue);
            });
            rd::rd_kafka_NewPartitions_destroy(wanted);
            let answer = answer?;
            let result = rd::rd_kafka_event_CreatePartitions_result(answer.raw());
            topic_results(&what, |count| rd::rd_kafka_CreatePartitions_result_topics(result, count))
        }
    }

    pub(crate) fn delete_records(&self, before: &List) -> Result<(), Error> {
        let what = "deletion of records of";
        // SAFETY: the list is valid and copied; the request is ours, and destroyed once after the call.
        unsafe {
            let mut request = rd::rd_kafka_DeleteRecords_new(before.raw());
            let answer = self.ask(what, |options, queue| {
                rd::rd_kafka_DeleteRecords(self.client.raw(), &mut request, 1, options, queue);
            });
            rd::rd_kafka_DeleteRecords_destroy(request);
            let answer = answer?;
            let result = rd::rd_kafka_event_DeleteRecords_result(answer.raw());
            elements(rd::rd_kafka_DeleteRecords_result_offsets(result), what).map(drop)
        }
    }

    pub(crate) fn committed(&self, group: &str, partitions: &List) -> Result<Vec<Element>, Error> {
        let what = format!("committed offset of group {group} for");
        let c_group = c_string(group)?;
        // SAFETY: as in `delete_records`.
        unsafe {
            let mut request = rd::rd_kafka_ListConsumerGroupOffsets_new(c_group.as_ptr(), partitions.raw());
            let answer = self.ask(&what, |options, queue| {
                rd::rd_kafka_ListConsumerGroupOffsets(self.client.raw(), &mut request, 1, options, queue);
            });
            rd::rd_kafka_ListConsumerGroupOffsets_destroy(request);
            let answer = answer?;
            let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(answer.raw());
            group_results(&what, |count| rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, count))
        }
    }

    pub(crate) fn set_committed(&self, group: &str, offsets: &List) -> Result<(), Error> {
        let what = format!("commit by hand for group {group} of");
        let c_group = c_string(group)?;
        // SAFETY: as in `delete_records`.
        unsafe {
            let mut request = rd::rd_kafka_AlterConsumerGroupOffsets_new(c_group.as_ptr(), offsets.raw());
            let answer = self.ask(&what, |options, queue| {
                rd::rd_kafka_AlterConsumerGroupOffsets(self.client.raw(), &mut request, 1, options, queue);
            });
            rd::rd_kafka_AlterConsumerGroupOffsets_destroy(request);
            let answer = answer?;
            let result = rd::rd_kafka_event_AlterConsumerGroupOffsets_result(answer.raw());
            group_results(&what, |count| rd::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, count))
                .map(drop)
        }
    }

    /// The offsets that the partitions of `asked` have; what is asked for (first, next) stands in the list.
    pub(crate) fn offsets(&self, asked: &List) -> Result<Vec<Element>, Error> {
        let what = "offset of";
        let answer = self.ask(what, |options, queue| {
            // SAFETY: all are valid, and the list is copied.
            unsafe { rd::rd_kafka_ListOffsets(self.client.raw(), asked.raw(), options, queue) };
        })?;
        let mut count = 0usize;
        // SAFETY: the event is a result of this call; its array has `count` elements and lives as long.
        unsafe {
            let result = rd::rd_kafka_event_ListOffsets_result(answer.raw());
            let infos = rd::rd_kafka_ListOffsets_result_infos(result, &mut count);
            (0..count)
                .map(|at| element(rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(at)), what))
                .collect()
        }
    }

    pub(crate) fn describe_group(&self, group: &str) -> Result<GroupDescription, Error> {
        let what = format!("description of group {group}");
        let c_group = c_string(group)?;
        let mut names = [c_group.as_ptr()];
        let answer = self.ask(&what, |options, queue| {
            // SAFETY: all are valid, and the name is copied.
            unsafe {
                rd::rd_kafka_DescribeConsumerGroups(self.client.raw(), names.as_mut_ptr(), 1, options, queue)
            };
        })?;
        let mut count = 0usize;
        // SAFETY: the event is a result of this call; its array has `count` elements, and they live as long.
        unsafe {
            let result = rd::rd_kafka_event_DescribeConsumerGroups_result(answer.raw());
            let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
            if count != 1 {
                return Err(Error::new(format!("{what}: the broker left it out of its answer")));
            }
            described(*groups, &what)
        }
    }
}

/// # Safety
/// `group` is a description within an answer that is not destroyed.
unsafe fn described(
    group: *const rd::rd_kafka_ConsumerGroupDescription_t,
    what: &str,
) -> Result<GroupDescription, Error> {
    use rd::rd_kafka_consumer_group_type_t as kind;
    // SAFETY: by the contract above; all that is had from the description lives as long as it.
    unsafe {
        let error = rd::rd_kafka_ConsumerGroupDescription_error(group);
        if !error.is_null() {
            return Err(kafka_error(rd::rd_kafka_error_code(error), what));
        }
        let state = rd::rd_kafka_ConsumerGroupDescription_state(group);
        let members = (0..rd::rd_kafka_ConsumerGroupDescription_member_count(group))
            .map(|at| {
                let member = rd::rd_kafka_ConsumerGroupDescription_member(group, at);
                let assignment = rd::rd_kafka_MemberDescription_assignment(member);
                let partitions = rd::rd_kafka_MemberAssignment_partitions(assignment);
                let instance = owned(rd::rd_kafka_MemberDescription_group_instance_id(member));
                Ok(Member {
                    member_id: owned(rd::rd_kafka_MemberDescription_consumer_id(member)),
                    client_id: owned(rd::rd_kafka_MemberDescription_client_id(member)),
                    instance: (!instance.is_empty()).then_some(instance),
                    assignment: elements(partitions, what)?.into_iter().map(|e| e.partition).collect(),
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(GroupDescription {
            state: owned(rd::rd_kafka_consumer_group_state_name(state)),
            kind: match rd::rd_kafka_ConsumerGroupDescription_type(group) {
                kind::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER => GroupKind::Consumer,
                _ => GroupKind::Classic,
            },
            assignor: owned(rd::rd_kafka_ConsumerGroupDescription_partition_assignor(group)),
            coordinator: match rd::rd_kafka_ConsumerGroupDescription_coordinator(group) {
                none if none.is_null() => -1,
                node => rd::rd_kafka_Node_id(node),
            },
            members,
        })
    }
}

/// # Safety
/// `array` gives an array that is as long as it says, and lives through the call.
unsafe fn topic_results(
    what: &str,
    array: impl FnOnce(*mut usize) -> *mut *const rd::rd_kafka_topic_result_t,
) -> Result<(), Error> {
    let mut count = 0usize;
    let results = array(&mut count);
    for at in 0..count {
        // SAFETY: by the contract above.
        check(unsafe { rd::rd_kafka_topic_result_error(*results.add(at)) }, || what.to_owned())?;
    }
    Ok(())
}

/// A permission as the native calls take it: to be made, or to be looked for.
struct Acl(*mut rd::rd_kafka_AclBinding_t);

type NewAcl = unsafe extern "C" fn(
    rd::rd_kafka_ResourceType_t,
    *const c_char,
    rd::rd_kafka_ResourcePatternType_t,
    *const c_char,
    *const c_char,
    rd::rd_kafka_AclOperation_t,
    rd::rd_kafka_AclPermissionType_t,
    *mut c_char,
    usize,
) -> *mut rd::rd_kafka_AclBinding_t;

impl Acl {
    fn new(new: NewAcl, permission: &Permission) -> Result<Self, Error> {
        let Codes { kind, operation, effect } = codes(permission);
        let (name, principal) = (c_string(permission.resource.name())?, c_string(&permission.principal)?);
        let pattern = rd::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL;
        let (name, principal, host) = (name.as_ptr(), principal.as_ptr(), c"*".as_ptr());
        // SAFETY: strings end in NUL, and are copied; there is no room for a reason.
        let acl = unsafe { new(kind, name, pattern, principal, host, operation, effect, ptr::null_mut(), 0) };
        if acl.is_null() {
            return Err(Error::new(format!("{permission:?}: refused by the client")));
        }
        Ok(Self(acl))
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: it is ours, and destroyed once.
        unsafe { rd::rd_kafka_AclBinding_destroy(self.0) }
    }
}

/// The codes of a permission, as the native calls number them.
struct Codes {
    kind: rd::rd_kafka_ResourceType_t,
    operation: rd::rd_kafka_AclOperation_t,
    effect: rd::rd_kafka_AclPermissionType_t,
}

fn codes(permission: &Permission) -> Codes {
    use rd::rd_kafka_AclOperation_t as Op;
    use rd::rd_kafka_AclPermissionType_t as Effect;
    use rd::rd_kafka_ResourceType_t as Kind;
    Codes {
        kind: match permission.resource {
            Resource::Topic(_) => Kind::RD_KAFKA_RESOURCE_TOPIC,
            Resource::Group(_) => Kind::RD_KAFKA_RESOURCE_GROUP,
        },
        operation: match permission.operation {
            Operation::Read => Op::RD_KAFKA_ACL_OPERATION_READ,
            Operation::Describe => Op::RD_KAFKA_ACL_OPERATION_DESCRIBE,
        },
        effect: if permission.denied {
            Effect::RD_KAFKA_ACL_PERMISSION_TYPE_DENY
        } else {
            Effect::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW
        },
    }
}

/// # Safety
/// As for `topic_results`.
unsafe fn group_results(
    what: &str,
    array: impl FnOnce(*mut usize) -> *mut *const rd::rd_kafka_group_result_t,
) -> Result<Vec<Element>, Error> {
    let mut count = 0usize;
    let results = array(&mut count);
    let mut found = Vec::new();
    for at in 0..count {
        // SAFETY: by the contract above; the error belongs to the result and is only read.
        unsafe {
            let result = *results.add(at);
            let error = rd::rd_kafka_group_result_error(result);
            if !error.is_null() {
                return Err(kafka_error(rd::rd_kafka_error_code(error), what));
            }
            found.extend(elements(rd::rd_kafka_group_result_partitions(result), what)?);
        }
    }
    Ok(found)
}

fn c_pairs(pairs: &[(&str, &str)]) -> Result<Vec<(CString, CString)>, Error> {
    pairs.iter().map(|(key, value)| Ok((c_string(key)?, c_string(value)?))).collect()
}

/// A list that asks for the first offset (with `first`), or the one after the last.
pub(crate) fn asking(partitions: &[TopicPartition], first: bool) -> Result<List, Error> {
    let spec = if first {
        rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST
    } else {
        rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST
    };
    let mut list = List::new()?;
    for partition in partitions {
        list.add_offset(partition, spec as i64, &[])?;
    }
    Ok(list)
}
