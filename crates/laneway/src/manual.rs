//! What Laneway guarantees, what it costs, and what is left to you.
//!
//! # At least once, in order
//!
//! A record counts once its handler has returned `Ok` (or its delivery was acked). The offset that is committed for a
//! partition is the one below which everything that was delivered is finished; it is committed once a second, and always
//! before a partition is given away or the group is left. What is finished *above* it (by key, unordered, or acked out of
//! order) is remembered in the commit's metadata.
//!
//! - **Graceful moves** (members that join, leave, are stopped with SIGTERM) repeat nothing and lose nothing, in
//!   all three rebalance protocols, if handlers end within the drain deadline. A handler that does not is
//!   cancelled at its next await point; its record comes again, and only it.
//! - **After a crash** exactly what was not known to be finished at the last commit comes again, and nothing is lost. That
//!   includes a start at the log's end: it is committed before the first record is delivered.
//! - **Order** is what was asked for: that of the partition, of each key, or none. A record that fails is tried again, in
//!   its place.
//!
//! # Handlers
//!
//! [`Consumer::run`](crate::Consumer::run) takes a [`Handler`](crate::Handler): a closure or a trait.
//! [`run_lanes`](crate::Consumer::run_lanes) makes one for each lane. [`run_batches`](crate::Consumer::run_batches) hands
//! over batches, by size, bytes and linger; [`run_blocking`](crate::Consumer::run_blocking) is for code that blocks,
//! [`run_spawned`](crate::Consumer::run_spawned) for code that computes for long. [`Typed`](crate::Typed) decodes first;
//! a tower `Service` is a handler with the feature `tower`. For loops that pull records themselves there is
//! [`Consumer::into_lanes`](crate::Consumer::into_lanes): a stream of lanes, each a stream of records with an `ack`.
//!
//! # Order and concurrency
//!
//! [`Builder::ordering`](crate::Builder::ordering) says which records are handled in their order: those of a partition
//! (the default: one at a time in each lane), those of one key, or none. Keys are real queues: two busy keys never share
//! one, and a key that has nothing to do leaves nothing behind. [`Builder::concurrency`](crate::Builder::concurrency) is how
//! many records are in flight at once in all lanes, 256 unless it is set, and can be changed while they run. All of one
//! lane's handlers run in the lane's task, so a handler that computes without awaiting holds up its lane's others: see
//! `run_spawned`.
//!
//! What waits for a record ahead of it, or for its next try, is copied out of what it was fetched with. By key and
//! unordered, when such records take an eighth of [`Builder::memory`](crate::Builder::memory), in a lane or in all of them
//! together, their places are kept and their bytes are not: they are read again when they may run, so what fails for very
//! long does not hold up its partition. In the partition's order nothing else could run; a lane in which an eighth of the
//! budget waits even so (400 bytes for each record that is put aside) stops reading, says so after 10 s, and goes on when
//! there is less.
//!
//! # The offset map
//!
//! What is finished above the committed offset goes into the metadata of the commit, in the smallest of several encodings
//! (`laneway_core::map` has the format), with a checksum that is bound to group, topic, partition and offset. A commit that
//! was moved by hand, metadata of somebody else's, or a map that is damaged is void: everything behind the offset comes
//! again, and an [`Event::Error`](crate::Event::Error) says so. Where the broker's limit (4,096 characters) has no room for
//! all of it, it is cut from the top: what is forgotten is counted
//! ([`LaneStatus::forgotten`](crate::LaneStatus::forgotten)), and nothing stops for it.
//!
//! # Failures
//!
//! A handler ends in an [`Outcome`](crate::Outcome): done; try again; give up (a dead letter); skip; stop. An error or a
//! panic is a try that failed, and is tried again with a wait that doubles, with full jitter
//! ([`Builder::backoff`](crate::Builder::backoff)), until [`Builder::attempts`](crate::Builder::attempts) or
//! [`Builder::retry_for`](crate::Builder::retry_for) say that it is enough: by default never. What becomes of it then is
//! [`Builder::on_give_up`](crate::Builder::on_give_up). A [dead letter](crate::Builder::dead_letters) is acknowledged by the
//! brokers before its record counts as finished; while it can't be written, its record (and its key) wait, and events say
//! so. When everything fails, a [`Builder::storm_guard`](crate::Builder::storm_guard) keeps a topic from being drained into
//! the dead letters. Instead of waiting in place, a record may wait in [retry topics](crate::Builder::retry_topics), which
//! costs its order. [`Builder::timeout`](crate::Builder::timeout) limits one try, and
//! [`Builder::stall_after`](crate::Builder::stall_after) says when a handler that takes long is told of;
//! past [`Builder::stall`](crate::Builder::stall) it is a stall, and the member may leave for it. All of it, with the names
//! of headers, is in [docs/FAILURES.md](https://github.com/laneway-rs/laneway/blob/main/docs/FAILURES.md).
//!
//! # Hooks
//!
//! [`Builder::hooks`](crate::Builder::hooks) has code of yours called around the coming and going of lanes, on your runtime:
//! [`before_open`](crate::LaneHooks::before_open) before a lane's first record, to load what belongs to a partition;
//! [`before_close`](crate::LaneHooks::before_close) behind its last one and before the partition is given back, to store it;
//! and, after the fact, of an assignment, a revoke, a loss. What one member stored in `before_close` is there for the
//! `before_open` of the next one, where a partition moves with grace. A hook that hangs is dropped at the drain deadline.
//!
//! What is finished is committed once a second, whatever is stored when. After a crash a partition begins at what was
//! committed, with what was stored last: state that must match the offsets exactly is stored by the handler, with each
//! record or batch.
//!
//! # Steering
//!
//! A [`Handle`](crate::Handle) stops and drains a consumer, shows its [`Status`](crate::Status), commits at once, pauses,
//! resumes and moves lanes, changes the subscription and the concurrency, and asks the brokers for committed offsets,
//! offsets at times and the bounds of logs. It waits on the caller's side; the client thread waits for nobody.
//!
//! # Without a group
//!
//! [`Builder::assign`](crate::Builder::assign) reads partitions that are named, each from the beginning, the end, an offset
//! or a time, in no group: for tools that read a topic once, for replicas that each read all of it, and where the position is
//! kept somewhere else. Lanes, order, failures, hooks and handles are the same; nothing is committed, so what a handle
//! asks of a group is refused with [`ErrorKind::Config`](crate::ErrorKind::Config). The principal needs no
//! permission for any group, only to READ its topics; where it has none, librdkafka asks twice a second in vain for the
//! coordinator of `laneway-without-a-group`, which is to be seen nowhere but in the log of a broker that logs what it denies.
//!
//! # Consumers and runtimes
//!
//! Any number of consumers may run in one process; each has its own threads and clients, also in one group. A
//! current-thread runtime is enough. Dropping the future of [`run`](crate::Consumer::run), or the
//! [`Lanes`](crate::Lanes), or shutting down the runtime, stops the consumer: what was finished is committed and the group
//! is left; records in a handler come again. If only the runtime of the lanes is shut down while `run` lives on another,
//! `run` ends with [`ErrorKind::Fatal`](crate::ErrorKind::Fatal) after the same commit and leave. A consumer that never ran
//! connects to nothing: dropping it does nothing, [`Handle::drain`](crate::Handle::drain) returns at once, and what its
//! handle is asked is refused with [`ErrorKind::NotRunning`](crate::ErrorKind::NotRunning). One that is stopped before it
//! runs ends as soon as it runs.
//!
//! A static member ([`Builder::instance_id`](crate::Builder::instance_id)) stays in the group when it stops. Started again
//! within the session it has its partitions back without a rebalance, in all three protocols. A second one of the same
//! name takes the first one's place in the classic protocols, which ends with
//! [`ErrorKind::Fenced`](crate::ErrorKind::Fenced); with KIP-848 it is the second one that does.
//!
//! # Two clients
//!
//! A member is two native clients. *Membership* is in the group and never fetches; the *fetcher* fetches what
//! membership was assigned, and is in no group. So lanes that stay do not notice a rebalance (in eager, Kafka
//! itself takes every partition away at every rebalance). It costs twice the connections per member (three times, once
//! there are lanes that have little to read: they are fetched by a client of their own, whose requests wait for records
//! and hold up no others; `fetch.wait.max.ms`, given, applies to all lanes, and there is no third client), and it
//! means that `max.poll.interval.ms` does not see a handler that is stuck: membership is always polled. An event names
//! handlers that take long ([`Builder::stall_after`](crate::Builder::stall_after)).
//!
//! # Deadlines
//!
//! A revoke or a stop waits for what is in flight until the drain deadline (25 s by default). Ending what
//! outlives it, the last commit and the leave have 5 s more. A stop is over by then, whatever state the brokers
//! and the handlers are in. A handler that blocks its thread can't be cancelled: see
//! [`StuckHandlers`](crate::StuckHandlers).
//!
//! # What Kafka's protocols leave open
//!
//! A member that is frozen (SIGSTOP, a suspended machine) past its session loses its partitions without being
//! there to hear of it. When it goes on, Laneway notices that it did not run for longer than its session and
//! cancels every lane at once; a record that was in a handler at that moment may be finished by two members.
//! With KIP-848 the session is the broker's, so it is noticed with the next heartbeat.
//!
//! In the classic protocols a change of topics that the group sees in the middle of a drain gives the draining partition
//! away at once. Laneway shows changes of topics to the group only between rebalances; where one is seen all the same, what
//! drains is lost within 100 ms: its records come again.
//!
//! # Topics that are made again
//!
//! A topic that is deleted and made again has the same name and is another one, which its id says (from Kafka 2.8 on): its
//! lanes end, and others begin at its beginning, in new epochs, also where its log is long enough for the offset that they
//! stood at, and nothing that was finished of the old one counts. That is told by [`Event::Error`](crate::Event::Error). It
//! is noticed at the latest when topics are looked for (`topic.metadata.refresh.interval.ms`, 30 s). The native clients that
//! fetched the old one are replaced then, as librdkafka can't read on where leaders had moved before: other lanes that they
//! fetched go on where they are, and only what was fetched ahead of them is fetched again.
//!
//! A commit of a member that does not know of it yet can come when the group's offsets of the old one are gone already: it
//! stays, and nothing says of which topic it is. So what members commit in the first 90 s after they learnt of it does say so
//! (in the metadata, in the place of what is finished ahead: `#` and the topic's id); and for 30 s a partition that a member
//! takes over is read from its beginning where what is committed does not. Only a member that is *started* in that moment,
//! and never knew the old one, can't tell, and begins at such an offset: start consumers before a topic is made again, or
//! well after it.
//!
//! A topic for dead letters or retries that is made again is written to by another producer from then on, for the same
//! reason.
//!
//! # Properties
//!
//! Properties of librdkafka are accepted as they are, and go to the client that they concern. Those that
//! contradict what Laneway does are refused by [`Builder::build`](crate::Builder::build), with the reason. What
//! Laneway sets unless you do: `heartbeat.interval.ms` 500 and `session.timeout.ms` 45000 (classic protocols),
//! `queued.max.messages.kbytes` 4096, `fetch.queue.backoff.ms` 1 and `reconnect.backoff.max.ms` 2000. `topic.metadata.refresh.interval.ms` is
//! how often new topics and partitions are looked for (30 s by default).
//!
//! # Security
//!
//! TLS and SASL PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER work with the default build, by librdkafka's
//! properties (`security.protocol`, `sasl.mechanism`, `sasl.username`, `sasl.password`, `ssl.ca.location`, ...),
//! which go to both clients; a file of certificates or keys that can't be read is refused by
//! [`Builder::build`](crate::Builder::build). Tokens for OAUTHBEARER come from
//! [`Builder::token_provider`](crate::Builder::token_provider): one call at a time, one token for both clients,
//! renewed after three quarters of its life. A provider that fails or hangs is told as an
//! [`Event::Error`](crate::Event::Error) and asked again; nothing waits for it but connections that have no token.
//!
//! What the brokers refuse is told with what was refused, by whom, and what to do, and never with a secret:
//!
//! | refused | at the start | later |
//! | --- | --- | --- |
//! | a password or a token; the broker's certificate (not trusted, expired, another host) or this client's | ends, [`ErrorKind::Refused`](crate::ErrorKind::Refused), if no broker lets it in within 2 s | tried on, said once a minute at most |
//! | reading the group | ends | tried on, said once a minute at most; with KIP-848 it may end |
//! | reading a topic | ends | tried on, said once a minute at most |
//!
//! The start lasts until a broker has answered once (connections), until there was an assignment once (the group),
//! and until a record of the topic was finished, but no longer than 10 s after the first lanes began (topics).
//! Later, nothing is lost by waiting for whoever is changing a password or a permission: a lane that may not read
//! stands, what is finished and can't be committed is tried again, and after the session a group goes on without a
//! member that is not let in. A broker that is down or being restarted refuses nothing.
//!
//! # Logs that are cut off, or damaged
//!
//! After an unclean election of a leader a log may end below what was read of it, and hold other records there. By the
//! leader epochs, which go along with every commit, that is noticed under way and at a start: it is told, and reading goes
//! on where the log was cut off, so that nothing that was written since is left out. Where an offset was committed without
//! a leader epoch (by a tool, or another client) Kafka's protocol lets nobody know: above the log's end it is told, and
//! reading goes on at the end; where the log has grown past it again, reading goes on at the offset.
//!
//! A batch that is damaged (set `check.crcs` to have that noticed in all cases) or can't be decompressed stops its partition
//! there: it is named in an event, once a minute, and read again at most every 10 s, in case another replica has it whole.
//! Nothing behind it is skipped. To go past it, [`Handle::seek`](crate::Handle::seek) to an offset behind the batch, or
//! stop the group and move its offset (`kafka-consumer-groups.sh --reset-offsets`). Where the batch ends
//! `kafka-dump-log.sh` tells.
//!
//! # Groups that have another protocol
//!
//! A member that asks for a rebalance protocol that its group can't have is told what the group has, tried on for as long
//! as the others may take to stop (the drain deadline and 5 s), and then ends with
//! [`ErrorKind::Refused`](crate::ErrorKind::Refused). From eager to KIP-848, and from KIP-848 to either classic protocol, a
//! group changes over one member at a time, without a record repeated or lost if each step waits until the group is
//! stable; docs/PROTOCOLS.md has the rest.
//!
//! # Topics
//!
//! A topic that does not exist is waited for. A topic or partition that appears while the consumer runs is read
//! from its beginning, also with [`OffsetReset::Latest`](crate::OffsetReset::Latest). A name that starts with `^`
//! is a regular expression (of the `regex` crate) that is searched for in the names of topics; Kafka's own
//! topics never match.
