//! Administration: topics, offsets, groups. Each call waits for its answer.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use laneway_core::TopicPartition;

use crate::sys::{AdminClient, List, asking};
use crate::{Error, code};

const TIMEOUT: Duration = Duration::from_secs(15);

/// A client for administration. Calls wait at most about 15 s, and may come from any thread.
pub struct Admin {
    client: AdminClient,
}

/// What a group has committed for a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The next offset to be read.
    pub offset: i64,
    /// What the committer said beside it; empty if nothing.
    pub metadata: Vec<u8>,
}

/// A group, as its coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    /// `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead` or `Unknown`. A KIP-848 group that
    /// is assigning or reconciling is `Unknown` here: the client has no names for these states.
    pub state: String,
    /// Which protocol the group has.
    pub kind: GroupKind,
    /// The assignor, or nothing if the group has none.
    pub assignor: String,
    /// The node that coordinates it; -1 if there is none now.
    pub coordinator: i32,
    /// Its members. A classic member that is not through its first join is not listed.
    pub members: Vec<Member>,
}

/// A group's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupKind {
    /// Eager or cooperative; also a group that does not exist.
    Classic,
    /// KIP-848.
    Consumer,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The id it has in the group.
    pub member_id: String,
    /// What it calls itself.
    pub client_id: String,
    /// Its `group.instance.id`, if it is a static member.
    pub instance: Option<String>,
    /// What it is assigned.
    pub assignment: Vec<TopicPartition>,
}

/// An access control list's entry: what a principal may do, or may not. Needs a broker with an authorizer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permission {
    /// Who: `User:NAME`.
    pub principal: String,
    /// With what.
    pub resource: Resource,
    /// What.
    pub operation: Operation,
    /// It is denied, which goes before everything that is allowed.
    pub denied: bool,
}

/// What a [`Permission`] is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// A group.
    Group(String),
}

/// What a [`Permission`] allows or denies. To read includes to describe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// To read a topic, or to be in a group.
    Read,
    /// To ask about it.
    Describe,
}

impl Resource {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Topic(name) | Self::Group(name) => name,
        }
    }
}

impl Admin {
    /// A client of the cluster at `brokers`.
    ///
    /// # Errors
    /// When no client can be made; that no broker answers is seen at the first call.
    pub fn new(brokers: &str) -> Result<Self, Error> {
        let properties = [
            ("client.id", "laneway-testing-admin"),
            ("bootstrap.servers", brokers),
            ("reconnect.backoff.ms", "20"),
            ("reconnect.backoff.max.ms", "200"),
        ];
        Ok(Self { client: AdminClient::new(&properties, TIMEOUT)? })
    }

    /// How many brokers the cluster says it has.
    ///
    /// # Errors
    /// When none answers within `timeout`.
    pub fn broker_count(&self, timeout: Duration) -> Result<usize, Error> {
        self.client.client().brokers(timeout)
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// When it does not exist, a partition of it has no leader, or no broker answers.
    pub fn partition_count(&self, topic: &str) -> Result<i32, Error> {
        self.client.client().partitions(topic, TIMEOUT)
    }

    /// Makes a topic, with the cluster's default number of replicas, and waits until its partitions have leaders.
    ///
    /// # Errors
    /// When it exists, the name or a configuration is refused, or no broker answers.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<(), Error> {
        patiently(|| self.client.create_topic(name, partitions, &[], configs))?;
        self.wait_for_partitions(name, partitions)
    }

    /// Makes a topic with a partition for each list of nodes, which are to have its replicas; the first leads.
    ///
    /// # Errors
    /// As [`create_topic`](Self::create_topic).
    pub fn create_topic_on(&self, name: &str, replicas: &[Vec<i32>]) -> Result<(), Error> {
        self.create_topic_on_with(name, replicas, &[])
    }

    /// As [`create_topic_on`](Self::create_topic_on), with configurations.
    ///
    /// # Errors
    /// The same, and when a configuration is refused.
    pub fn create_topic_on_with(
        &self,
        name: &str,
        replicas: &[Vec<i32>],
        configs: &[(&str, &str)],
    ) -> Result<(), Error> {
        let partitions = i32::try_from(replicas.len())
            .map_err(|_| Error::new(format!("topic {name} with {} partitions", replicas.len())))?;
        patiently(|| self.client.create_topic(name, partitions, replicas, configs))?;
        self.wait_for_partitions(name, partitions)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// When it does not exist, or no broker answers.
    pub fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.client.delete_topic(name)
    }

    /// Grows a topic to `total` partitions, and waits until they have leaders.
    ///
    /// # Errors
    /// When it does not exist, has as many already, or no broker answers.
    pub fn create_partitions(&self, name: &str, total: i32) -> Result<(), Error> {
        let count = usize::try_from(total)
            .map_err(|_| Error::new(format!("topic {name} with {total} partitions")))?;
        self.client.create_partitions(name, count)?;
        self.wait_for_partitions(name, total)
    }

    /// Deletes the records below the given offsets.
    ///
    /// # Errors
    /// When a partition does not exist, an offset is past its end, or no broker answers.
    pub fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let mut list = List::new()?;
        for (partition, offset) in before {
            list.add_offset(partition, *offset, &[])?;
        }
        patiently(|| self.client.delete_records(&list))
    }

    /// Makes a permission, or a denial, and waits until it is in force: the controller makes it, and brokers hear of
    /// it a little later.
    ///
    /// # Errors
    /// When the cluster has no authorizer, or no broker answers.
    pub fn permit(&self, permission: &Permission) -> Result<(), Error> {
        self.client.create_acl(permission)?;
        self.wait_for_permission(permission, true)
    }

    /// Takes a permission, or a denial, back, and waits until it is.
    ///
    /// # Errors
    /// As [`permit`](Self::permit).
    pub fn take_back(&self, permission: &Permission) -> Result<(), Error> {
        self.client.delete_acl(permission)?;
        self.wait_for_permission(permission, false)
    }

    /// What a group has committed for these partitions; those without a commit are left out.
    ///
    /// # Errors
    /// When the coordinator says so, or does not answer.
    pub fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, Committed>, Error> {
        let list = List::of(partitions)?;
        let found = patiently(|| self.client.committed(group, &list))?;
        Ok(found
            .into_iter()
            .filter(|e| e.offset >= 0)
            .map(|e| (e.partition, Committed { offset: e.offset, metadata: e.metadata }))
            .collect())
    }

    /// Commits offsets for a group from outside it.
    ///
    /// # Errors
    /// When the group has members (Kafka allows this to empty groups alone), or no broker answers.
    pub fn set_committed(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let offsets: Vec<_> = offsets
            .iter()
            .map(|(partition, offset)| {
                (partition.clone(), Committed { offset: *offset, metadata: Vec::new() })
            })
            .collect();
        self.set_committed_with_metadata(group, &offsets)
    }

    /// As [`set_committed`](Self::set_committed), with metadata.
    ///
    /// # Errors
    /// The same, and when the metadata is longer than the broker takes.
    pub fn set_committed_with_metadata(
        &self,
        group: &str,
        offsets: &[(TopicPartition, Committed)],
    ) -> Result<(), Error> {
        let mut list = List::new()?;
        for (partition, committed) in offsets {
            list.add_offset(partition, committed.offset, &committed.metadata)?;
        }
        patiently(|| self.client.set_committed(group, &list))
    }

    /// The offset after the last record of each of these partitions.
    ///
    /// # Errors
    /// When a partition does not exist, or no broker answers.
    pub fn end_offsets(&self, partitions: &[TopicPartition]) -> Result<HashMap<TopicPartition, i64>, Error> {
        self.offsets(partitions, false)
    }

    /// The offset of the first record of each of these partitions.
    ///
    /// # Errors
    /// When a partition does not exist, or no broker answers.
    pub fn start_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        self.offsets(partitions, true)
    }

    /// A group's state and members, of either protocol. The embedded Kafka cannot say.
    ///
    /// # Errors
    /// When the coordinator says so, or does not answer.
    pub fn describe_group(&self, group: &str) -> Result<GroupDescription, Error> {
        patiently(|| self.client.describe_group(group))
    }

    fn offsets(
        &self,
        partitions: &[TopicPartition],
        first: bool,
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        let list = asking(partitions, first)?;
        let found = patiently(|| {
            self.client.offsets(&list).inspect_err(|_| {
                // After a restart of the broker the client asks with the leader epochs of before, is told that
                // they are old, and does not look for new ones by itself.
                let topics: BTreeSet<&str> = partitions.iter().map(|p| &*p.topic).collect();
                topics.into_iter().for_each(|topic| drop(self.partition_count(topic)));
            })
        })?;
        Ok(found.into_iter().map(|e| (e.partition, e.offset)).collect())
    }

    fn wait_for_permission(&self, permission: &Permission, there: bool) -> Result<(), Error> {
        let what = format!("{permission:?} {}", if there { "in force" } else { "taken back" });
        let is_so = || self.client.has_acl(permission).is_ok_and(|found| found == there);
        crate::try_wait_until(TIMEOUT, &what, is_so)
    }

    fn wait_for_partitions(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        crate::try_wait_until(
            TIMEOUT,
            &format!("{partitions} partitions of topic {topic} with a leader each"),
            || self.partition_count(topic).is_ok_and(|count| count >= partitions),
        )
    }
}

/// Asks again, for a while, when the answer is that the broker is not ready: a coordinator loads its groups after
/// a start, and when the first group of all is made; a controller on a busy machine may not have heard of its brokers
/// for a moment, and then knows of too few for a topic's replicas.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match ask() {
            Err(error) if NOT_READY.contains(&error.code().unwrap_or(0)) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            answer => return answer,
        }
    }
}

const NOT_READY: [i32; 8] = [
    code::INVALID_REPLICATION_FACTOR,
    code::LEADER_NOT_AVAILABLE,
    code::NOT_LEADER_OR_FOLLOWER,
    code::COORDINATOR_LOAD_IN_PROGRESS,
    code::COORDINATOR_NOT_AVAILABLE,
    code::NOT_COORDINATOR,
    code::FENCED_LEADER_EPOCH,
    code::UNKNOWN_LEADER_EPOCH,
];

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
