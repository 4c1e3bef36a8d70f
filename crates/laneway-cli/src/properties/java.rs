//! Java's properties in librdkafka's words.

use super::{Given, Property, jaas};

/// Brings what was given to librdkafka's spelling. Of two that mean the same the later one is taken.
///
/// # Errors
/// Names a property that can't be brought over, and what to do about it.
pub(super) fn translate(given: &Given) -> Result<Given, String> {
    let mut all = Given::default();
    let truststore = given.value("ssl.truststore.type").map(str::trim);
    let keystore = given.value("ssl.keystore.type").map(str::trim);
    for Property { key, value, source } in &given.properties {
        let trimmed = value.trim().to_owned();
        let mut put = |key: &str, value: String| all.put(key, value, *source);
        match key.as_str() {
            "sasl.jaas.config" => {
                let (user, password) =
                    jaas::user_and_password(value).map_err(|error| format!("property \"{key}\": {error}"))?;
                put("sasl.username", user);
                put("sasl.password", password);
            }
            "ssl.truststore.location" => {
                refuse_jks(key, truststore, &trimmed, CONVERT_TRUSTSTORE)?;
                put("ssl.ca.location", trimmed);
            }
            "ssl.truststore.certificates" => put("ssl.ca.pem", value.clone()),
            "ssl.keystore.location" if is_pem(keystore, &trimmed) => {
                put("ssl.certificate.location", trimmed.clone());
                put("ssl.key.location", trimmed);
            }
            "ssl.keystore.location" => {
                refuse_jks(key, keystore, &trimmed, CONVERT_KEYSTORE)?;
                put("ssl.keystore.location", trimmed);
            }
            "ssl.keystore.certificate.chain" => put("ssl.certificate.pem", value.clone()),
            "ssl.keystore.key" => put("ssl.key.pem", value.clone()),
            "ssl.truststore.type" | "ssl.keystore.type" => {
                if trimmed.eq_ignore_ascii_case("jks") {
                    let how = if key.contains("trust") { CONVERT_TRUSTSTORE } else { CONVERT_KEYSTORE };
                    return Err(format!("property \"{key}\": JKS stores are not read: {how}"));
                }
            }
            "ssl.endpoint.identification.algorithm" if trimmed.is_empty() => put(key, "none".into()),
            "fetch.max.wait.ms" => put("fetch.wait.max.ms", trimmed),
            // Two names of one property, so that the command line's takes the place of the file's.
            "metadata.broker.list" => put("bootstrap.servers", trimmed),
            "send.buffer.bytes" => put("socket.send.buffer.bytes", buffer_bytes(trimmed)),
            "receive.buffer.bytes" => put("socket.receive.buffer.bytes", buffer_bytes(trimmed)),
            // They say what Laneway does anyway.
            "enable.auto.commit" | "enable.auto.offset.store" | "allow.auto.create.topics"
                if trimmed.eq_ignore_ascii_case("false") => {}
            _ if is_javas_alone(key) => {
                if !all.passed_over.contains(key) {
                    all.passed_over.push(key.clone());
                }
            }
            // As in Java: everything is trimmed but passwords.
            _ if key.ends_with("password") || key.ends_with("secret") => put(key, value.clone()),
            _ => put(key, trimmed),
        }
    }
    Ok(all)
}

/// The system's default is -1 in Java, and 0 in librdkafka.
fn buffer_bytes(value: String) -> String {
    if value == "-1" { "0".into() } else { value }
}

fn is_pem(kind: Option<&str>, path: &str) -> bool {
    kind.map_or_else(|| path.ends_with(".pem"), |kind| kind.eq_ignore_ascii_case("pem"))
}

fn refuse_jks(key: &str, kind: Option<&str>, path: &str, how: &str) -> Result<(), String> {
    let is_keystore = key.contains("keystore");
    let is_good = match kind {
        Some(kind) => {
            kind.eq_ignore_ascii_case("pem") || (is_keystore && kind.eq_ignore_ascii_case("pkcs12"))
        }
        None => path.ends_with(".pem") || path.ends_with(".crt") || (is_keystore && !path.ends_with(".jks")),
    };
    if is_good { Ok(()) } else { Err(format!("property \"{key}\": only PEM stores are read here: {how}")) }
}

fn is_javas_alone(key: &str) -> bool {
    JAVAS_ALONE.contains(&key) || JAVAS_FAMILIES.iter().any(|prefix| key.starts_with(prefix))
}

const CONVERT_TRUSTSTORE: &str = "convert it with keytool -exportcert -rfc -keystore STORE -alias ALIAS > ca.pem, and \
                                  give ssl.truststore.type=PEM";
const CONVERT_KEYSTORE: &str = "convert it with keytool -importkeystore -srckeystore STORE -destkeystore store.p12 \
                                -deststoretype PKCS12, and give ssl.keystore.type=PKCS12";

/// How the names of whole families of such properties begin.
const JAVAS_FAMILIES: &[&str] = &[
    "auto.include.jmx",
    "interceptor.",
    "key.deserializer",
    "key.serializer",
    "metric.",
    "metrics.",
    "sasl.kerberos.ticket.renew.",
    "sasl.login.",
    "value.deserializer",
    "value.serializer",
];

/// Properties of Java's consumer that have no meaning here (its configuration reference).
const JAVAS_ALONE: &[&str] = &[
    "max.poll.records",
    "default.api.timeout.ms",
    "request.timeout.ms",
    "exclude.internal.topics",
    "config.providers",
    "internal.leave.group.on.close",
    "retries",
    "fetch.max.bytes.per.partition",
    "sasl.client.callback.handler.class",
    "socket.connection.setup.timeout.max.ms",
    "security.providers",
    "ssl.engine.factory.class",
    "ssl.keymanager.algorithm",
    "ssl.trustmanager.algorithm",
    "ssl.secure.random.implementation",
    "ssl.protocol",
    "ssl.enabled.protocols",
    "ssl.provider",
    "share.acknowledgement.mode",
    "ssl.truststore.password",
    "auto.commit.interval.ms",
];

/// Keeps `Property` from being printed whole: it may hold a secret.
impl std::fmt::Debug for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Property").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::properties::Source;

    fn translated(pairs: &[(&str, &str)]) -> Result<Given, String> {
        let mut given = Given::default();
        for (key, value) in pairs {
            given.put(key, (*value).to_owned(), Source::File);
        }
        translate(&given)
    }

    #[test]
    fn stores_of_pem_are_understood_and_jks_is_refused_with_how_to_convert_it() {
        let all =
            translated(&[("ssl.truststore.type", "PEM"), ("ssl.truststore.location", "/ca.pem")]).unwrap();
        assert_eq!(all.value("ssl.ca.location"), Some("/ca.pem"));
        let refused = translated(&[("ssl.truststore.location", "/trust.jks")]).err().unwrap();
        assert!(refused.contains("keytool"), "{refused}");
        let refused = translated(&[("ssl.keystore.type", "JKS")]).err().unwrap();
        assert!(refused.contains("PKCS12"), "{refused}");
    }

    #[test]
    fn what_means_nothing_here_is_passed_over_by_name() {
        let all =
            translated(&[("key.deserializer", "x"), ("max.poll.records", "1"), ("group.id", "g")]).unwrap();
        assert_eq!(all.passed_over, ["key.deserializer", "max.poll.records"]);
        assert_eq!(all.value("group.id"), Some("g"));
    }

    #[test]
    fn what_librdkafka_has_too_is_not_passed_over() {
        let all = translated(&[
            ("client.dns.lookup", "use_all_dns_ips"),
            ("enable.metrics.push", "false"),
            ("metadata.recovery.strategy", "none"),
            ("metadata.recovery.rebootstrap.trigger.ms", "1"),
            ("send.buffer.bytes", "-1"),
            ("receive.buffer.bytes", "65536"),
        ])
        .unwrap();
        assert!(all.passed_over.is_empty(), "{:?}", all.passed_over);
        assert_eq!(all.value("client.dns.lookup"), Some("use_all_dns_ips"));
        assert_eq!(all.value("enable.metrics.push"), Some("false"));
        // -1 is Java's word for the system's default, 0 librdkafka's.
        assert_eq!(all.value("socket.send.buffer.bytes"), Some("0"));
        assert_eq!(all.value("socket.receive.buffer.bytes"), Some("65536"));
    }

    #[test]
    fn a_whole_configuration_of_javas_consumer_needs_no_changes() {
        let all = translated(&[
            ("key.serializer", "x"),
            ("value.serializer", "x"),
            ("sasl.login.refresh.window.factor", "0.8"),
            ("sasl.login.retry.backoff.ms", "100"),
            ("sasl.kerberos.ticket.renew.jitter", "0.05"),
            ("socket.connection.setup.timeout.max.ms", "30000"),
            ("allow.auto.create.topics", "false"),
            ("enable.auto.commit", "False"),
        ])
        .unwrap();
        assert_eq!(all.passed_over.len(), 6, "{:?}", all.passed_over);
        assert!(all.properties.is_empty(), "{:?}", all.properties);
    }

    #[test]
    fn a_password_keeps_its_spaces_as_in_java() {
        let all = translated(&[("ssl.key.password", " p "), ("sasl.password", "p "), ("client.id", " me ")]);
        let all = all.unwrap();
        assert_eq!(all.value("ssl.key.password"), Some(" p "));
        assert_eq!(all.value("sasl.password"), Some("p "));
        assert_eq!(all.value("client.id"), Some("me"));
    }

    #[test]
    fn a_jaas_line_becomes_user_and_password() {
        let line = "x.ScramLoginModule required username=\"u\" password=\"p\";";
        let all = translated(&[("sasl.jaas.config", line)]).unwrap();
        assert_eq!((all.value("sasl.username"), all.value("sasl.password")), (Some("u"), Some("p")));
    }
}
