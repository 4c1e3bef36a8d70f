//! What Laneway guarantees, what it costs, and what is left to you.
//!
//! # At least once, in order
//!
//! A record counts once its handler has returned `Ok`. The offset that is committed for a partition is the one
//! below which everything that was delivered is finished; it is committed once a second, and always before a
//! partition is given away or the group is left.
//!
//! - **Graceful moves** (members that join, leave, are stopped with SIGTERM) repeat nothing and lose nothing, in
//!   all three rebalance protocols, if handlers end within the drain deadline. A handler that does not is
//!   cancelled at its next await point; its record comes again.
//! - **After a crash** what was finished since the last commit comes again, and nothing is lost. That includes
//!   a start at the log's end: it is committed before the first record is delivered.
//! - **Order** is that of the partition. A record that fails is tried again, in place, before the next one.
//!
//! # Two clients
//!
//! A member is two native clients. *Membership* is in the group and never fetches; the *fetcher* fetches what
//! membership was assigned, and is in no group. So lanes that stay do not notice a rebalance (in eager, Kafka
//! itself takes every partition away at every rebalance). It costs twice the connections per member, and it
//! means that `max.poll.interval.ms` does not see a handler that is stuck: membership is always polled. Look at
//! [`Status`](crate::Status) for lanes with records in flight that do not move.
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
//! # Properties
//!
//! Properties of librdkafka are accepted as they are, and go to the client that they concern. Those that
//! contradict what Laneway does are refused by [`Builder::build`](crate::Builder::build), with the reason. What
//! Laneway sets unless you do: `heartbeat.interval.ms` 500 and `session.timeout.ms` 45000 (classic protocols),
//! `queued.max.messages.kbytes` 4096 and `fetch.queue.backoff.ms` 10. `topic.metadata.refresh.interval.ms` is
//! how often new topics and partitions are looked for (30 s by default).
//!
//! # Security
//!
//! TLS and SASL PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER work with the default build, by librdkafka's
//! properties (`security.protocol`, `sasl.mechanism`, `sasl.username`, `sasl.password`, `ssl.ca.location`, ...),
//! which go to both clients. Tokens for OAUTHBEARER come from
//! [`Builder::token_provider`](crate::Builder::token_provider): one call at a time, one token for both clients,
//! renewed after three quarters of its life. A provider that fails or hangs is told as an
//! [`Event::Error`](crate::Event::Error) and asked again; nothing waits for it but connections that have no token.
//!
//! What the brokers refuse is told with what was refused, by whom, and what to do, and never with a secret:
//!
//! | refused | at the start | later |
//! | --- | --- | --- |
//! | a password or a token; the broker's certificate (not trusted, expired, another host) or this client's | ends, [`ErrorKind::Refused`](crate::ErrorKind::Refused), if no broker lets it in within 2 s | tried on, said once a minute at most |
//! | reading the group | ends | tried on, said once a minute at most; with KIP-848 ends |
//! | reading a topic | ends | tried on, said once a minute at most |
//!
//! The start lasts until a broker has answered once (connections), until there was an assignment once (the group),
//! and until a record of the topic was finished, but no longer than 10 s after the first lanes began (topics).
//! Later, nothing is lost by waiting for whoever is changing a password or a permission: a lane that may not read
//! stands, what is finished and can't be committed is tried again, and after the session a group goes on without a
//! member that is not let in. A broker that is down or being restarted refuses nothing.
//!
//! # Topics
//!
//! A topic that does not exist is waited for. A topic or partition that appears while the consumer runs is read
//! from its beginning, also with [`OffsetReset::Latest`](crate::OffsetReset::Latest). A name that starts with `^`
//! is a regular expression (of the `regex` crate) that is searched for in the names of topics; Kafka's own
//! topics never match.
