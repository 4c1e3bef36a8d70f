//! The broker that is read from: a real Kafka with a plain and a TLS listener.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use laneway_testing::{RealKafka, RealOptions, unique};

use crate::Failure;

pub(crate) struct Kafka {
    pub(crate) node: RealKafka,
    /// The certificate of the private authority that has signed the broker's.
    authority: String,
}

impl Kafka {
    pub(crate) fn start() -> Result<Self, Failure> {
        let directory = Directory(std::env::temp_dir().join(unique("laneway-bench")));
        std::fs::create_dir(&directory.0)?;
        let at = directory.0.as_path();
        let curve = "ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(at, &format!("req -x509 -newkey {curve} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"))?;
        openssl(
            at,
            &format!("req -new -newkey {curve} -keyout broker.key -out broker.csr -subj /CN=broker"),
        )?;
        std::fs::write(at.join("broker.ext"), "subjectAltName=IP:127.0.0.1\n")?;
        openssl(
            at,
            "x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile broker.ext \
             -out broker.pem",
        )?;
        let read = |name: &str| std::fs::read_to_string(at.join(name));
        let of_listener = |key: &str, value: String| (format!("listener.name.tls.{key}"), value);
        let options = RealOptions {
            properties: vec![
                of_listener("ssl.keystore.type", "PEM".into()),
                of_listener("ssl.keystore.certificate.chain", read("broker.pem")?),
                of_listener("ssl.keystore.key", read("broker.key")?),
            ],
            listeners: vec![("TLS".into(), "SSL".into())],
            ..RealOptions::default()
        };
        let authority = read("ca.pem")?;
        Ok(Self { node: RealKafka::start(options)?, authority })
    }

    pub(crate) fn brokers(&self) -> &str {
        self.node.brokers()
    }

    /// Address and properties for clients that come over TLS.
    pub(crate) fn tls(&self) -> Result<(String, Vec<(String, String)>), Failure> {
        let properties =
            vec![("security.protocol".into(), "ssl".into()), ("ssl.ca.pem".into(), self.authority.clone())];
        Ok((self.node.listener("TLS")?, properties))
    }
}

fn openssl(at: &Path, arguments: &str) -> Result<(), Failure> {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(at).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("openssl, for a certificate: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
