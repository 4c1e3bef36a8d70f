//! Where Kafka's jars are: in `KAFKA_HOME`, in the cache, or brought into the cache by Maven.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, sys, unique};

const POM: &str = include_str!("../../pom.xml");
const VERSION: &str = "kafka-4.3.1";

/// Whether [`libs`] has a chance.
pub(super) fn available() -> Result<(), Error> {
    java()?;
    if let Some(home) = home() {
        return home.map(drop);
    }
    if has_kafka(&cache()?.join("libs")) {
        return Ok(());
    }
    match Command::new("mvn")
        .arg("-v")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
    {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::new(format!("`mvn -v` fails ({status})"))),
        Err(e) => {
            Err(Error::new(format!("no Maven to fetch Kafka's jars with (`mvn`: {e}), and no KAFKA_HOME")))
        }
    }
}

/// The directory of the jars; fetches them if they are not there. Several processes may ask at once.
pub(super) fn libs() -> Result<PathBuf, Error> {
    java()?;
    if let Some(home) = home() {
        return home;
    }
    let cache = cache()?;
    let libs = cache.join("libs");
    if has_kafka(&libs) {
        return Ok(libs);
    }
    let told =
        |path: &Path, e: std::io::Error| Error::new(format!("cache of Kafka's jars {}: {e}", path.display()));
    fs::create_dir_all(&cache).map_err(|e| told(&cache, e))?;
    let lock = cache.join("lock");
    let held = fs::OpenOptions::new().create(true).append(true).open(&lock).map_err(|e| told(&lock, e))?;
    sys::lock_file(&held).map_err(|e| told(&lock, e))?;
    if has_kafka(&libs) {
        return Ok(libs);
    }
    // Made beside its place and moved there whole: what has the right name is complete.
    let fresh = cache.join(unique("new"));
    fs::create_dir_all(&fresh).map_err(|e| told(&fresh, e))?;
    let fetched =
        fetch(&fresh).and_then(|()| fs::rename(fresh.join("libs"), &libs).map_err(|e| told(&libs, e)));
    let _ = fs::remove_dir_all(&fresh);
    fetched.map(|()| libs)
}

fn fetch(into: &Path) -> Result<(), Error> {
    let pom = into.join("pom.xml");
    fs::write(&pom, POM).map_err(|e| Error::new(format!("{}: {e}", pom.display())))?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", into.join("libs").display()))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::new(format!("Kafka's jars: `mvn`: {e}")))?;
    if output.status.success() && has_kafka(&into.join("libs")) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let said: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).take(5).collect();
    Err(Error::new(format!(
        "Kafka's jars were not fetched by `mvn` ({}): {}",
        output.status,
        said.join("; ")
    )))
}

/// The jars of `KAFKA_HOME`, if that is set.
fn home() -> Option<Result<PathBuf, Error>> {
    let home = std::env::var_os("KAFKA_HOME").filter(|home| !home.is_empty())?;
    let libs = Path::new(&home).join("libs");
    Some(if has_kafka(&libs) {
        Ok(libs)
    } else {
        Err(Error::new(format!("KAFKA_HOME is set, but there is no Kafka in {}", libs.display())))
    })
}

fn cache() -> Result<PathBuf, Error> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("LANEWAY_KAFKA_CACHE")
        .or_else(|| Some(set("HOME")?.join(".cache/laneway").join(VERSION)))
        .ok_or_else(|| Error::new("no place for Kafka's jars: neither LANEWAY_KAFKA_CACHE nor HOME is set"))
}

fn has_kafka(libs: &Path) -> bool {
    let Ok(entries) = fs::read_dir(libs) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("kafka_2.13-") && name.ends_with(".jar")
    })
}

/// Java, new enough for Kafka 4.
fn java() -> Result<(), Error> {
    let output = Command::new("java").arg("-version").stdin(Stdio::null()).output();
    let output = output.map_err(|e| Error::new(format!("no Java to run Kafka with (`java`: {e})")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let version = said.split('"').nth(1).unwrap_or_default();
    let major = version.split(['.', '-', '+']).next().unwrap_or_default().parse().unwrap_or(0u32);
    if major >= 17 {
        return Ok(());
    }
    Err(Error::new(format!("Kafka wants Java 17 or newer, and `java -version` says {version:?}")))
}
