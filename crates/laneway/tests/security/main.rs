//! TLS, SASL and permissions, against a broker with listeners of all kinds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../logged/mod.rs"]
mod logged;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use laneway::{Builder, ErrorKind, Protocol, Start, StopReason, Token, TopicPartition};
use laneway_testing::{
    Admin, Operation, Permission, Producer, RealKafka, RealOptions, Resource, unique, wait_until,
};

use logged::logs;
use support::{MARKER, PASSWORD, Running, SOON, Secured, property, secured, token, token_mark};

/// It reads what there is, and ends.
fn reads(builder: Builder) {
    let (result, said) = Running::start(builder.count(10)).end();
    let summary = result.unwrap_or_else(|error| panic!("{error}; it said {said}"));
    assert_eq!((summary.reason, summary.finished), (StopReason::Count, 10), "{said}");
}

#[test]
fn every_way_to_prove_who_one_is_reads_with_the_default_build() {
    let Some(broker) = secured() else { return };
    let topic = broker.topic(10);
    reads(broker.builder("TLS", &topic));
    for (listener, mechanism) in [("SASL", "PLAIN"), ("SASLTLS", "SCRAM-SHA-256"), ("SASL", "SCRAM-SHA-512")]
    {
        reads(broker.user(listener, &topic, mechanism, "alice", PASSWORD));
    }
    let oauth = broker.builder("SASLTLS", &topic).property("sasl.mechanism", "OAUTHBEARER");
    reads(oauth.token_provider(|| async { Ok::<_, String>(token(Duration::from_secs(60))) }));
}

#[test]
fn credentials_and_certificates_that_are_refused_end_the_consumer_within_seconds_and_stay_secret() {
    let Some(broker) = secured() else { return };
    let topic = broker.topic(1);
    let wrong = "hunter2-is-wrong";
    // `property` again: the last one counts.
    let cases = [
        (broker.user("SASL", &topic, "PLAIN", "alice", wrong), vec!["SASL", "sasl.password"]),
        (broker.user("SASLTLS", &topic, "SCRAM-SHA-256", "alice", wrong), vec!["SASL", "sasl.password"]),
        (broker.user("SASL", &topic, "SCRAM-SHA-512", "nobody", wrong), vec!["SASL", "sasl.password"]),
        (
            broker.builder("SASL", &topic).property("sasl.mechanism", "OAUTHBEARER").token_provider(
                || async {
                    let expires = std::time::SystemTime::now() + Duration::from_secs(60);
                    Ok::<_, String>(Token::new(MARKER, expires))
                },
            ),
            vec!["SASL", "the token"],
        ),
        (
            broker.builder("TLS", &topic).property("ssl.ca.pem", &broker.other_ca),
            vec!["authority", "ssl.ca.location"],
        ),
        (broker.builder("NAMED", &topic), vec!["for another address", "that is in its certificate"]),
        (broker.builder("OLD", &topic), vec!["has expired", "renew it"]),
        (
            broker.builder("TLS", &topic).property("ssl.certificate.pem", "").property("ssl.key.pem", ""),
            vec!["client's certificate"],
        ),
    ];
    let running = cases.map(|(builder, words)| {
        let addressed = format!("{builder:?}");
        (Running::start(builder.property("debug", "all")), words, addressed)
    });
    for (running, words, addressed) in running {
        let error = running.refused();
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
        let address = addressed.split('"').nth(1).unwrap();
        assert!(error.contains(address), "{address}: {error}");
    }
    let broken = broker.builder("TLS", &topic).property("ssl.key.pem", format!("{MARKER} is no key"));
    let (result, said) = Running::start(broken).end();
    assert!(result.is_err_and(|error| error.kind() == ErrorKind::Config), "{said}");
    let logs = logs();
    assert!(logs.contains("SASL authentication error"), "nothing was logged");
    for secret in [MARKER, "PRIVATE KEY", &token_mark()] {
        let line = logs.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret}: {line:?}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_before_anything_is_connected() {
    let provider = || async { Ok::<_, String>(token(Duration::from_secs(60))) };
    let builder = || laneway::Consumer::builder().brokers("127.0.0.1:9092").group("g").topics(["t"]);
    let oauth =
        || builder().property("sasl.mechanism", "OAUTHBEARER").property("security.protocol", "sasl_ssl");
    let refusal = |builder: Builder| builder.build().expect_err("a refusal").to_string();
    assert!(refusal(oauth()).contains("give a token provider"));
    assert!(refusal(builder().token_provider(provider)).contains("sasl.mechanism"));
    let plain = oauth().property("sasl.mechanism", "PLAIN");
    assert!(refusal(plain.token_provider(provider)).contains("sasl.mechanism"));
    let open = oauth().property("security.protocol", "plaintext");
    assert!(refusal(open.token_provider(provider)).contains("security.protocol"));
    let unsigned = oauth().property("enable.sasl.oauthbearer.unsecure.jwt", "true");
    assert!(refusal(unsigned).contains("enable.sasl.oauthbearer.unsecure.jwt"));
    let consumer = oauth().token_provider(provider).build().unwrap();
    assert!(!format!("{consumer:?} {:?}", token(SOON)).contains(&token_mark()));
}

#[test]
fn offsets_are_asked_for_in_every_way_to_prove_who_one_is_and_a_refusal_ends_that_within_seconds() {
    let Some(broker) = secured() else { return };
    let topic = broker.topic(10);
    let ask = |builder: Builder| support::runtime().block_on(builder.offsets());
    let oauth = broker.builder("SASLTLS", &topic).property("sasl.mechanism", "OAUTHBEARER");
    for builder in [
        broker.builder("TLS", &topic),
        broker.user("SASLTLS", &topic, "SCRAM-SHA-256", "alice", PASSWORD),
        oauth.token_provider(|| async { Ok::<_, String>(token(Duration::from_secs(60))) }),
    ] {
        let found = ask(builder).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((found.len(), found[0].committed, found[0].lag()), (1, None, Some(10)));
    }
    let failing = broker.builder("SASLTLS", &topic).property("sasl.mechanism", "OAUTHBEARER");
    for (builder, kind, word) in [
        (
            broker.user("SASL", &topic, "PLAIN", "alice", "hunter2-is-wrong"),
            ErrorKind::Refused,
            "sasl.password",
        ),
        (
            broker.builder("TLS", &topic).property("ssl.ca.pem", &broker.other_ca),
            ErrorKind::Refused,
            "ssl.ca.location",
        ),
        // Who may not describe the topic and the group.
        (
            broker.user("SASL", &topic, "PLAIN", "bob", PASSWORD).group(unique("group")),
            ErrorKind::Refused,
            "authorization failed",
        ),
        (
            failing.token_provider(|| async { Err::<Token, _>("no such file") }),
            ErrorKind::NoBroker,
            "no such file",
        ),
    ] {
        let error = ask(builder).expect_err("a refusal");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

fn permission(resource: Resource, operation: Operation) -> Permission {
    Permission { principal: "User:bob".into(), resource, operation, denied: false }
}

#[test]
fn a_permission_that_is_missing_ends_the_consumer_and_is_named() {
    let Some(broker) = secured() else { return };
    let admin = broker.admin();
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let topic = broker.topic(10);
        let group = unique("group");
        let bob = || broker.user("SASL", &topic, "PLAIN", "bob", PASSWORD).group(&group).protocol(protocol);
        // Nothing at all; then in the order in which a consumer asks.
        let error = Running::start(bob()).refused();
        assert!(error.contains(&topic) && error.contains("READ the topic"), "{error}");
        admin.permit(&permission(Resource::Topic(topic.clone()), Operation::Describe)).unwrap();
        let error = Running::start(bob()).refused();
        assert!(error.contains(&group) && error.contains("READ the group"), "{error}");
        admin.permit(&permission(Resource::Group(group.clone()), Operation::Read)).unwrap();
        let error = Running::start(bob()).refused();
        assert!(error.contains(&topic) && error.contains("READ the topic"), "{error}");
        admin.permit(&permission(Resource::Topic(topic.clone()), Operation::Read)).unwrap();
        reads(bob());
    }
}

/// The client that fetches has the name of a group all the same, as librdkafka wants one, and looks for its coordinator.
#[test]
fn partitions_that_are_assigned_by_hand_are_read_without_a_permission_for_any_group() {
    let Some(broker) = secured() else { return };
    let admin = broker.admin();
    let partition = TopicPartition::new(broker.topic(10), 0);
    let topic = partition.topic.to_string();
    let starts = || [Start::Beginning, Start::Time(0), Start::Offset(5), Start::End];
    // Nothing at all; then in the order in which a consumer asks.
    for operation in [None, Some(Operation::Describe)] {
        if let Some(operation) = operation {
            admin.permit(&permission(Resource::Topic(topic.clone()), operation)).unwrap();
        }
        let error = Running::start(broker.by_hand(&partition, Start::Beginning, "bob")).refused();
        assert!(error.contains(&topic) && error.contains("READ the topic"), "{error}");
    }
    admin.permit(&permission(Resource::Topic(topic.clone()), Operation::Read)).unwrap();
    let running = starts().map(|start| Running::start(broker.by_hand(&partition, start, "bob")));
    for (running, records) in running.iter().zip([10, 10, 5, 0]) {
        running.wait_to_hear("Assigned");
        running.wait_for(records);
    }
    // For longer than what is refused at the start is tried.
    let until = Instant::now() + Duration::from_secs(12);
    wait_until(SOON, "a while", || Instant::now() >= until);
    broker.produce(&topic, 10);
    for (running, records) in running.into_iter().zip([20, 20, 15, 10]) {
        running.wait_for(records);
        let (said, begun) = (running.said(), Instant::now());
        assert!(!said.contains("uthoriz") && !said.contains("Error"), "{said}");
        let summary = running.stop();
        assert_eq!((summary.finished, summary.unfinished, summary.uncommitted), (records, 0, 0), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{said}");
    }
}

#[test]
fn a_permission_that_is_taken_away_later_is_waited_for() {
    let Some(broker) = secured() else { return };
    let admin = broker.admin();
    let Permitted { topic, read, join, bob, .. } = permitted(broker);
    let running = Running::start(bob);
    running.wait_for(10);
    for (taken, words) in [(read, "READ the topic"), (join, "READ the group")] {
        admin.take_back(&taken).unwrap();
        let finished = running.finished();
        broker.produce(&topic, 10);
        running.wait_to_hear(words);
        admin.permit(&taken).unwrap();
        running.wait_for(finished + 10);
        assert_eq!(running.count(words), 1, "{}", running.said());
        assert!(!running.has_ended());
    }
    assert_eq!(running.stop().uncommitted, 0);
}

/// What bob may do, and his consumer.
struct Permitted {
    topic: String,
    group: String,
    read: Permission,
    join: Permission,
    bob: Builder,
}

/// Bob may read a topic with ten records, in a group.
fn permitted(broker: &Secured) -> Permitted {
    let (topic, group) = (broker.topic(10), unique("group"));
    let read = permission(Resource::Topic(topic.clone()), Operation::Read);
    let join = permission(Resource::Group(group.clone()), Operation::Read);
    broker.admin().permit(&read).unwrap();
    broker.admin().permit(&join).unwrap();
    let bob = broker.user("SASL", &topic, "PLAIN", "bob", PASSWORD).group(&group);
    Permitted { topic, group, read, join, bob }
}

/// With KIP-848 librdkafka's client ends itself when its heartbeat is refused. Nothing can be committed then, and
/// nothing is waited for.
#[test]
fn with_kip_848_a_group_that_is_taken_away_ends_the_consumer_within_seconds() {
    let Some(broker) = secured() else { return };
    let Permitted { group, join, bob, .. } = permitted(broker);
    // A commit that is refused first makes the client look for its coordinator, and that is asked again for ever.
    let running = Running::start(bob.protocol(Protocol::Consumer).commit_interval(Duration::from_secs(60)));
    running.wait_for(10);
    running.wait_to_hear("Committed");
    broker.admin().take_back(&join).unwrap();
    let error = running.refused();
    assert!(error.contains(&group) && error.contains("READ the group"), "{error}");
}

#[test]
fn with_kip_848_a_commit_that_is_refused_is_told() {
    let Some(broker) = secured() else { return };
    let Permitted { topic, join, bob, .. } = permitted(broker);
    let running =
        Running::start(bob.protocol(Protocol::Consumer).commit_interval(Duration::from_millis(100)));
    running.wait_for(10);
    broker.admin().take_back(&join).unwrap();
    wait_until(SOON, "it is told", || {
        broker.produce(&topic, 1);
        running.count("READ the group") > 0
    });
    broker.admin().permit(&join).unwrap();
    running.leave();
}

/// A broker that is killed and started again breaks connections at every point of a handshake.
#[test]
fn a_broker_that_is_being_restarted_refuses_nobody() {
    if secured().is_none() {
        return;
    }
    let jaas = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"{PASSWORD}\";"
    );
    let options = RealOptions {
        properties: vec![
            property("listener.name.sasl.sasl.enabled.mechanisms", "PLAIN"),
            property("listener.name.sasl.plain.sasl.jaas.config", &jaas),
        ],
        listeners: vec![("SASL".into(), "SASL_PLAINTEXT".into())],
        ..RealOptions::default()
    };
    let kafka = RealKafka::start(options).unwrap();
    Admin::new(kafka.brokers()).unwrap().create_topic("t", 1, &[]).unwrap();
    let producer = Producer::new(kafka.brokers(), &[]).unwrap();
    (0..10).for_each(|_| producer.send("t", 0, None, Some(b"payload"), &[], None).unwrap());
    producer.flush().unwrap();
    kafka.kill();
    let alice = laneway::Consumer::builder()
        .brokers(kafka.listener("SASL").unwrap())
        .group(unique("group"))
        .topics(["t"])
        .offset_reset(laneway::OffsetReset::Earliest)
        .property("reconnect.backoff.max.ms", "500")
        .property("security.protocol", "sasl_plaintext")
        .property("sasl.mechanism", "PLAIN")
        .property("sasl.username", "alice")
        .property("sasl.password", PASSWORD);
    let running = Running::start(alice);
    kafka.start_again().unwrap();
    running.wait_for(10);
    assert_eq!(running.count("was refused"), 0, "{}", running.said());
    assert_eq!(running.stop().uncommitted, 0);
}

/// Provides tokens, or not, and sees that it is asked by one at a time.
#[derive(Default)]
struct Provider {
    calls: AtomicUsize,
    running: AtomicUsize,
    fails: AtomicBool,
    lies: AtomicBool,
}

impl Provider {
    async fn provide(&self, life: Duration) -> Result<Token, String> {
        assert_eq!(self.running.fetch_add(1, Ordering::SeqCst), 0, "two calls at once");
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Err("the token service is down".into());
        }
        if self.lies.load(Ordering::SeqCst) {
            return Ok(Token::new(MARKER, std::time::SystemTime::now() + life));
        }
        Ok(token(life))
    }
}

#[test]
fn tokens_are_renewed_while_records_flow_and_a_failing_provider_is_waited_for() {
    let Some(broker) = secured() else { return };
    let topic = broker.topic(10);
    let provider = Arc::new(Provider::default());
    provider.fails.store(true, Ordering::SeqCst);
    let asked = provider.clone();
    let oauth = broker.builder("SASL", &topic).property("sasl.mechanism", "OAUTHBEARER");
    let running = Running::start(oauth.token_provider(move || {
        let asked = asked.clone();
        async move { asked.provide(Duration::from_secs(2)).await }
    }));
    // At first there is none, and that is said.
    running.wait_to_hear("the token service is down");
    provider.fails.store(false, Ordering::SeqCst);
    running.wait_for(10);
    // Two lives of a token later everything still flows, and nobody was asked to prove itself in vain.
    let calls = provider.calls.load(Ordering::SeqCst);
    let mut sent = 10;
    wait_until(SOON, "four more tokens", || {
        broker.produce(&topic, 1);
        sent += 1;
        provider.calls.load(Ordering::SeqCst) >= calls + 4
    });
    running.wait_for(sent);
    assert_eq!(running.count("was refused"), 0, "{}", running.said());
    // Then the tokens are good for nothing for a while: said once, waited for.
    provider.lies.store(true, Ordering::SeqCst);
    running.wait_to_hear("the connection was refused");
    broker.produce(&topic, 10);
    provider.lies.store(false, Ordering::SeqCst);
    running.wait_for(sent + 10);
    assert!(!running.has_ended());
    let summary = running.stop();
    assert_eq!((summary.unfinished, summary.uncommitted), (0, 0));
}

#[test]
fn a_provider_that_hangs_holds_up_no_stop() {
    let Some(broker) = secured() else { return };
    let topic = broker.topic(1);
    let oauth = broker.builder("SASL", &topic).property("sasl.mechanism", "OAUTHBEARER");
    let running = Running::start(oauth.token_provider(std::future::pending::<Result<Token, String>>));
    let begun = std::time::Instant::now();
    running.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
