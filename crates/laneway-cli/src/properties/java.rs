//! Java's properties in librdkafka's words.

use super::{Given, Property, Source, jaas};

/// Adds pairs of one source to what was given, in librdkafka's spelling. A later one takes an earlier one's
/// place.
///
/// # Errors
/// Names a property that can't be brought over, and what to do about it.
pub(super) fn translate(pairs: Vec<(String, String)>, source: Source, all: &mut Given) -> Result<(), String> {
    let value_of = |wanted: &str| {
        pairs.iter().rev().find(|(key, _)| key == wanted).map(|(_, value)| value.trim().to_owned())
    };
    let truststore = value_of("ssl.truststore.type");
    let keystore = value_of("ssl.keystore.type");
    for (key, value) in &pairs {
        let trimmed = value.trim().to_owned();
        let mut put = |key: &str, value: String| all.put(key, value, source);
        match key.as_str() {
            "sasl.jaas.config" => {
                let (user, password) =
                    jaas::user_and_password(value).map_err(|error| format!("property \"{key}\": {error}"))?;
                put("sasl.username", user);
                put("sasl.password", password);
            }
            "ssl.truststore.location" => {
                refuse_jks(key, truststore.as_deref(), &trimmed, CONVERT_TRUSTSTORE)?;
                put("ssl.ca.location", trimmed);
            }
            "ssl.truststore.certificates" => put("ssl.ca.pem", value.clone()),
            "ssl.keystore.location" if is_pem(keystore.as_deref(), &trimmed) => {
                put("ssl.certificate.location", trimmed.clone());
                put("ssl.key.location", trimmed);
            }
            "ssl.keystore.location" => {
                refuse_jks(key, keystore.as_deref(), &trimmed, CONVERT_KEYSTORE)?;
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
            // They say what Laneway does anyway.
            "enable.auto.commit" | "enable.auto.offset.store" if trimmed == "false" => {}
            _ if is_javas_alone(key) => {
                if !all.passed_over.contains(key) {
                    all.passed_over.push(key.clone());
                }
            }
            _ => put(key, trimmed),
        }
    }
    Ok(())
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
    let prefixes =
        ["metric.", "metrics.", "interceptor.", "auto.include.jmx", "key.deserializer", "value.deserializer"];
    JAVAS_ALONE.contains(&key) || prefixes.iter().any(|prefix| key.starts_with(prefix))
}

const CONVERT_TRUSTSTORE: &str = "convert it with keytool -exportcert -rfc -keystore STORE -alias ALIAS > ca.pem, and \
                                  give ssl.truststore.type=PEM";
const CONVERT_KEYSTORE: &str = "convert it with keytool -importkeystore -srckeystore STORE -destkeystore store.p12 \
                                -deststoretype PKCS12, and give ssl.keystore.type=PKCS12";

/// Properties of Java's consumer that have no meaning here (its configuration reference).
const JAVAS_ALONE: &[&str] = &[
    "max.poll.records",
    "default.api.timeout.ms",
    "request.timeout.ms",
    "exclude.internal.topics",
    "client.dns.lookup",
    "config.providers",
    "enable.metrics.push",
    "internal.leave.group.on.close",
    "retries",
    "send.buffer.bytes",
    "receive.buffer.bytes",
    "fetch.max.bytes.per.partition",
    "sasl.client.callback.handler.class",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "security.providers",
    "ssl.engine.factory.class",
    "ssl.keymanager.algorithm",
    "ssl.trustmanager.algorithm",
    "ssl.secure.random.implementation",
    "ssl.protocol",
    "ssl.enabled.protocols",
    "ssl.provider",
    "metadata.recovery.strategy",
    "metadata.recovery.rebootstrap.trigger.ms",
    "share.acknowledgement.mode",
    "ssl.truststore.password",
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

    fn translated(pairs: &[(&str, &str)]) -> Result<Given, String> {
        let mut all = Given::default();
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        translate(pairs, Source::File, &mut all).map(|()| all)
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
    fn a_jaas_line_becomes_user_and_password() {
        let line = "x.ScramLoginModule required username=\"u\" password=\"p\";";
        let all = translated(&[("sasl.jaas.config", line)]).unwrap();
        assert_eq!((all.value("sasl.username"), all.value("sasl.password")), (Some("u"), Some("p")));
    }
}
