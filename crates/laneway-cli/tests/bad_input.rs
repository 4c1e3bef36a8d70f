//! What bad input gets: one error that names the thing, exit code 2, and nothing on standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

fn laneway(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LANEWAY_")) {
        command.env_remove(name);
    }
    command.args(words).output().expect("the command")
}

/// A run that is good but for what is added. Nothing listens there: nothing may be tried either.
fn run_with(more: &[&str]) -> Output {
    let good = ["run", "-b", "127.0.0.1:1", "-g", "g", "-t", "t", "--print"];
    laneway(&[&good, more].concat())
}

#[track_caller]
fn refused(output: &Output, names: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    for name in names {
        assert!(error.contains(name), "\"{name}\" is not in: {error}");
    }
    assert!(!error.contains("hunter2"), "a secret was told: {error}");
}

#[test]
fn what_is_missing_is_named_with_how_to_give_it() {
    let wrong = laneway(&["run", "-b", "user:hunter2@h:1", "-g", "g", "-t", "t", "--print"]);
    refused(&wrong, &["@ in the brokers' addresses", "HOST:PORT"]);
    refused(
        &laneway(&["run", "-g", "g", "-t", "t", "--print"]),
        &["no brokers", "-b HOST:PORT", "LANEWAY_BROKERS"],
    );
    refused(&laneway(&["run", "-b", "h:1", "-t", "t", "--print"]), &["no group", "-g NAME"]);
    refused(&laneway(&["run", "-b", "h:1", "-g", "g", "--print"]), &["no topic", "-t NAME"]);
    refused(&laneway(&["run", "-b", "h:1", "-g", "g", "-t", "t"]), &["no sink", "--print", "--exec"]);
    refused(&laneway(&[]), &["Usage", "run", "demo"]);
}

#[test]
fn bad_questions_for_offsets_are_named() {
    refused(&laneway(&["offsets", "-g", "g"]), &["no brokers", "-b HOST:PORT"]);
    refused(&laneway(&["offsets", "-b", "h:1"]), &["no group", "-g NAME"]);
    let with = |more: &[&str]| laneway(&[&["offsets", "-b", "127.0.0.1:1", "-g", "g"], more].concat());
    refused(&with(&["--format", "xml"]), &["xml", "text", "json"]);
    refused(&with(&["-t", "no spaces"]), &["no spaces"]);
    refused(&with(&["-t", "sasl.password=hunter2"]), &["-t", "NAME"]);
    refused(&with(&["-X", "plugin.library.paths=x"]), &["plugin.library.paths", "loads code"]);
    refused(&with(&["-X", "no.such.property=1"]), &["no.such.property", "unknown"]);
    refused(&with(&["-o", "earliest"]), &["-o"]);
    refused(&laneway(&["offsets", "-b", "nowhere", "-g", "g"]), &["HOST:PORT"]);
}

#[test]
fn both_sinks_are_one_too_many() {
    refused(&run_with(&["--exec", "cat"]), &["--print", "--exec"]);
}

#[test]
fn a_wrong_value_is_named_with_what_was_given_and_what_is_allowed() {
    refused(&run_with(&["-o", "sometimes"]), &["sometimes", "earliest", "latest", "error"]);
    refused(&run_with(&["-o", "42"]), &["42", "seek"]);
    refused(&run_with(&["-n", "0"]), &["'0'", "--count"]);
    refused(&run_with(&["-n", "many"]), &["many", "--count"]);
    refused(&run_with(&["--protocol", "polite"]), &["polite", "eager", "cooperative", "consumer"]);
    refused(&run_with(&["--drain-deadline", "soon"]), &["soon", "25s"]);
    refused(&run_with(&["--commit-interval", "0s"]), &["commit interval"]);
    refused(&run_with(&["--wrong"]), &["--wrong"]);
    refused(&laneway(&["jump"]), &["jump"]);
    refused(&laneway(&["demo", "--members", "0"]), &["--members"]);
    refused(&run_with(&["--ordering", "none"]), &["none", "partition", "key", "unordered"]);
    for (flag, wrong) in [
        ("--concurrency", "0"),
        ("--concurrency", "many"),
        ("--lane-concurrency", "0"),
        ("--attempts", "0"),
        ("--attempts", "-1"),
        ("--timeout", "0s"),
        ("--timeout", "60"),
        ("--backoff", "30s..100ms"),
        ("--backoff", "100ms"),
        ("--backoff", "0s..1s"),
        ("--backoff", "1..2"),
        ("--on-give-up", "shrug"),
    ] {
        refused(&run_with(&[&format!("{flag}={wrong}")]), &[flag]);
    }
    refused(&run_with(&["--backoff", "30s..100ms"]), &["30s", "100ms", "from short to long"]);
    refused(&run_with(&["--on-give-up", "shrug"]), &["shrug", "dead-letter", "skip", "stop"]);
    refused(&run_with(&["--on-give-up", "dead-letter"]), &["--on-give-up", "--dead-letter TOPIC"]);
    refused(&run_with(&["--dead-letter", "t"]), &["dead letters", "\"t\"", "read"]);
    refused(&run_with(&["--dead-letter", "no spaces"]), &["no spaces", "topic"]);
    let matched = ["run", "-b", "127.0.0.1:1", "-g", "g", "-t", "^t", "--print", "--dead-letter", "t.dead"];
    refused(&laneway(&matched), &["t.dead", "read"]);
    refused(&laneway(&["demo", "--format", "xml"]), &["xml", "text", "json"]);
}

#[test]
fn a_malformed_address_is_named() {
    for broker in
        ["nowhere", "host:", ":9092", "host:0", "host:65536", "host:nine", "a:1,,b:2", "a b:1", "::1:9092"]
    {
        let output = laneway(&["run", "-b", broker, "-g", "g", "-t", "t", "--print"]);
        refused(&output, &["HOST:PORT"]);
    }
}

#[test]
fn a_bad_topic_or_expression_is_named() {
    let with = |topic| laneway(&["run", "-b", "127.0.0.1:1", "-g", "g", "-t", topic, "--print"]);
    refused(&with("^orders("), &["^orders(", "regular expression"]);
    refused(&with("no spaces"), &["no spaces", "topic"]);
    refused(&with("a,,b"), &["topic"]);
}

#[test]
fn properties_that_contradict_laneway_are_refused_by_name_and_reason() {
    for (property, names) in [
        ("enable.auto.commit=true", ["enable.auto.commit", "commits what is finished"]),
        ("enable.auto.offset.store=true", ["enable.auto.offset.store", "commits what is finished"]),
        ("plugin.library.paths=x", ["plugin.library.paths", "loads code"]),
        ("ssl.engine.location=x", ["ssl.engine.location", "loads code"]),
        ("ssl.providers=x", ["ssl.providers", "loads code"]),
        ("sasl.kerberos.kinit.cmd=x", ["sasl.kerberos.kinit.cmd", "runs a command"]),
        ("enable.sasl.oauthbearer.unsecure.jwt=true", ["unsecure.jwt", "not signed"]),
        ("sasl.oauthbearer.token.endpoint.url=http://x", ["token.endpoint.url", "https"]),
        ("test.mock.num.brokers=1", ["test.mock.num.brokers", "not real"]),
        ("no.such.property=1", ["no.such.property", "unknown"]),
        ("fetch.min.bytes=lots", ["fetch.min.bytes", "lots"]),
        ("group.id=other", ["group.id", "-g"]),
        ("auto.offset.reset=by_duration:PT1H", ["auto.offset.reset", "earliest"]),
        ("novalue", ["novalue", "KEY=VALUE"]),
        ("=1", ["-X", "name"]),
    ] {
        refused(&run_with(&["-X", property]), &names);
    }
    refused(
        &run_with(&["--protocol", "consumer", "-X", "session.timeout.ms=9000"]),
        &["session.timeout.ms", "KIP-848"],
    );
}

#[test]
fn a_drain_that_outlasts_the_rebalance_timeout_is_refused() {
    refused(&run_with(&["-X", "max.poll.interval.ms=20000"]), &["drain deadline", "max.poll.interval.ms"]);
    refused(&run_with(&["--drain-deadline", "295s"]), &["drain deadline", "295s"]);
}

#[test]
fn a_secret_is_never_told() {
    refused(
        &run_with(&["-X", "sasl.password=hunter2", "-X", "sasl.mechanism=hunter2", "-o", "x"]),
        &["\"x\""],
    );
    let jaas = "sasl.jaas.config=x.Krb5LoginModule required password=\"hunter2\";";
    refused(&run_with(&["-X", jaas]), &["sasl.jaas.config", "Krb5LoginModule"]);
    let token = "sasl.jaas.config=x.ScramLoginModule required username=\"hunter2\" password=\"hunter2\" tokenauth=\"true\";";
    refused(&run_with(&["-X", token]), &["sasl.jaas.config", "tokenauth"]);
    for without_equals in ["sasl.password hunter2", "sasl.password:hunter2", "sasl.password\thunter2"] {
        refused(&run_with(&["-X", without_equals]), &["\"sasl.password\"", "KEY=VALUE"]);
    }
    refused(
        &run_with(&["-X", "ssl.endpoint.identification.algorithm=hunter2"]),
        &["identification.algorithm"],
    );
    // The second -X was forgotten.
    refused(&run_with(&["-X", "a=b", "sasl.password=hunter2"]), &["'sasl.password'"]);
    refused(&laneway(&["sasl.password=hunter2"]), &["'sasl.password'"]);
}

#[test]
fn a_secret_under_a_wrong_flag_is_not_told_either() {
    for value in
        ["sasl.password=hunter2", "ssl.key.password=x hunter2", "sasl.password hunter2", "aHVudGVy=hunter2"]
    {
        for flag in [
            "-o",
            "-n",
            "--count",
            "--protocol",
            "--drain-deadline",
            "--commit-interval",
            "--ordering",
            "--concurrency",
            "--attempts",
            "--backoff",
            "--timeout",
            "--on-give-up",
            "--wrong",
        ] {
            refused(&run_with(&[flag, value]), &[flag.trim_start_matches("-o").trim_start_matches("-n")]);
        }
        for joined in ["--offset-reset=", "-o", "-n", "--protocol=", "--print=", "--wrong=", "--", "-w"] {
            refused(&run_with(&[&format!("{joined}{value}")]), &[]);
        }
        refused(&run_with(&[value]), &["unexpected argument"]);
        refused(&run_with(&["--", value]), &["unexpected argument"]);
        refused(&laneway(&[value]), &["laneway"]);
        refused(&laneway(&["demo", "--members", value]), &["--members"]);
        refused(&laneway(&["demo", "--format", value]), &["--format", "text", "json"]);
        refused(&run_with(&["-F", value]), &["properties file", "No such file"]);
    }
    let value = "sasl.password=hunter2";
    let base = |more: &[&str]| laneway(&[&["run", "-g", "g", "--print"], more].concat());
    refused(&base(&["-t", "t", "-b", value]), &["-b", "sasl.password", "HOST:PORT"]);
    refused(&base(&["-b", "h:1", "-t", value]), &["-t", "sasl.password"]);
    refused(&run_with(&["--dead-letter", value]), &["--dead-letter", "sasl.password", "NAME"]);
    refused(&run_with(&["--events", "/nowhere/sasl.password=hunter2"]), &["events file", "sasl.password"]);
    // A value that came apart from its name, with nothing that tells what it is.
    refused(&run_with(&["-X", "sasl.password=", "hunter2"]), &["unexpected argument"]);
    refused(&run_with(&["-X", "hunter2+/aa=="]), &["-X", "KEY=VALUE"]);
}

#[test]
fn a_line_of_a_properties_file_that_is_a_piece_of_a_secret_is_not_told() {
    let file = std::env::temp_dir().join(format!("laneway-pieces-{}", std::process::id()));
    let path = file.to_str().unwrap();
    for text in [
        "sasl.password=\nhunter2\n",
        "ssl.key.pem=-----BEGIN PRIVATE KEY-----\nMIIhunter2EvQIBADANBgkqhkiG9w0BAQ==\n",
        "a.b=c\nHunter2hunter2=x\n",
        "a.b=c\n\\u12hunter2\n",
    ] {
        std::fs::write(&file, text).unwrap();
        refused(&run_with(&["-F", path]), &[path, "line 2"]);
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_properties_file_that_is_bad_is_named_with_its_line() {
    let directory = std::env::temp_dir().join(format!("laneway-properties-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("client.properties");
    let path = file.to_str().unwrap();
    refused(&run_with(&["-F", path]), &[path, "No such file"]);
    std::fs::write(&file, "client.id=a\n=b\n").unwrap();
    refused(&run_with(&["-F", path]), &[path, "line 2"]);
    std::fs::write(&file, "ssl.truststore.location=/etc/trust.jks\nssl.truststore.password=hunter2\n")
        .unwrap();
    refused(&run_with(&["-F", path]), &["ssl.truststore.location", "keytool"]);
    // What means nothing here is passed over with one line; then the next bad thing is told.
    std::fs::write(&file, "key.deserializer=x\nvalue.deserializer=y\nmax.poll.records=5\n").unwrap();
    let output = run_with(&["-F", path, "-X", "no.such.property=1"]);
    refused(&output, &["key.deserializer, value.deserializer, max.poll.records", "no.such.property"]);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_the_environment_says_is_named_too() {
    let with = |name: &str, value: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_laneway"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LANEWAY_")) {
            command.env_remove(name);
        }
        let good = ["run", "-b", "127.0.0.1:1", "-t", "t", "--print"];
        command.env(name, value).args([&good, more].concat()).output().expect("the command")
    };
    let wrong = ["-X", "group.id=b", "-X", "no.such.property=1"];
    let said = with("LANEWAY_GROUP", "a", &wrong);
    refused(&said, &["no.such.property"]);
    assert!(!String::from_utf8_lossy(&said.stderr).contains("contradict"), "-X goes before the environment");
    refused(&with("LANEWAY_GROUP", "", &["-X", "no.such.property=1"]), &["no group"]);
    refused(
        &with("LANEWAY_GROUP", "", &["-X", "group.id=b", "-X", "no.such.property=1"]),
        &["no.such.property"],
    );
    refused(&with("LANEWAY_OFFSET_RESET", "42", &["-g", "g"]), &["42", "seek"]);
    refused(&with("LANEWAY_PROTOCOL", "polite", &["-g", "g"]), &["polite", "eager"]);
    refused(&with("LANEWAY_DRAIN_DEADLINE", "soon", &["-g", "g"]), &["soon", "25s"]);
    refused(&with("LANEWAY_COMMIT_INTERVAL", "0s", &["-g", "g"]), &["commit interval"]);
    refused(&with("LANEWAY_INSTANCE", "", &["-g", "g"]), &["--instance", "LANEWAY_INSTANCE"]);
    refused(&with("LANEWAY_ORDERING", "none", &["-g", "g"]), &["none", "partition"]);
    refused(&with("LANEWAY_CONCURRENCY", "0", &["-g", "g"]), &["--concurrency"]);
    refused(&with("LANEWAY_LANE_CONCURRENCY", "0", &["-g", "g"]), &["--lane-concurrency"]);
    refused(&with("LANEWAY_ATTEMPTS", "0", &["-g", "g"]), &["--attempts"]);
    refused(&with("LANEWAY_BACKOFF", "2s..1s", &["-g", "g"]), &["from short to long"]);
    refused(&with("LANEWAY_TIMEOUT", "0s", &["-g", "g"]), &["--timeout"]);
    refused(&with("LANEWAY_ON_GIVE_UP", "dead-letter", &["-g", "g"]), &["LANEWAY_ON_GIVE_UP", "TOPIC"]);
    refused(&with("LANEWAY_DEAD_LETTER", "t", &["-g", "g"]), &["dead letters", "read"]);
    refused(&with("LANEWAY_LOG", "loud", &["-g", "g"]), &["LANEWAY_LOG", "debug", "off"]);
    refused(&with("LANEWAY_EVENTS", "/nowhere/events", &["-g", "g"]), &["/nowhere/events"]);
    refused(&with("LANEWAY_PROPERTIES", "/nowhere/file", &["-g", "g"]), &["/nowhere/file"]);
}
