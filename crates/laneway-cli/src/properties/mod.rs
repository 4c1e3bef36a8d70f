//! Client properties from `-F` and `-X`: Java's spelling or librdkafka's, brought to librdkafka's.

mod file;
mod jaas;
mod java;

use std::path::Path;

use crate::shown::{is_a_propertys_name, leading_name, shown_path};

/// A property and where it was given.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    File,
    CommandLine,
}

/// All properties that were given; one of the command line takes the place of the file's.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) properties: Vec<Property>,
    /// Names of properties that mean something to Java's client only.
    pub(crate) passed_over: Vec<String>,
}

impl Given {
    /// Takes a property out.
    pub(crate) fn take(&mut self, key: &str) -> Option<Property> {
        let index = self.properties.iter().position(|property| property.key == key)?;
        Some(self.properties.remove(index))
    }

    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|property| property.key == key).map(|property| property.value.as_str())
    }

    pub(crate) fn source(&self, key: &str) -> Option<Source> {
        self.properties.iter().find(|property| property.key == key).map(|property| property.source)
    }

    pub(crate) fn put(&mut self, key: &str, value: String, source: Source) {
        self.take(key);
        self.properties.push(Property { key: key.to_owned(), value, source });
    }
}

/// Reads the file, then the `-X` ones, and brings both to librdkafka's spelling.
///
/// # Errors
/// One line that names the file and line, or the property; never a value that may be a secret.
pub(crate) fn read(path: Option<&Path>, given: &[String]) -> Result<Given, String> {
    let mut all = Given::default();
    if let Some(path) = path {
        let shown = shown_path(path);
        let text = std::fs::read(path).map_err(|error| format!("properties file {shown}: {error}"))?;
        let pairs = file::parse(&text).map_err(|error| format!("properties file {shown}: {error}"))?;
        for file::Pair { line, key, value, is_bare } in pairs {
            // A piece of a value that should have been on the line before.
            if !is_a_propertys_name(&key) || (is_bare && !key.contains('.')) {
                return Err(format!(
                    "properties file {shown}: line {line}: it does not begin with a property's name; a value that \
                     goes on over several lines needs a backslash at the end of each but the last"
                ));
            }
            all.put(&key, value, Source::File);
        }
    }
    for text in given {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("-X \"{}\": KEY=VALUE is wanted", leading_name(text)))?;
        let key = key.trim();
        if key.is_empty() {
            return Err("-X: the name of a property is missing before \"=\"".into());
        }
        if !is_a_propertys_name(key) {
            return Err("-X: KEY=VALUE is wanted, and what is before \"=\" is not a property's name".into());
        }
        all.put(key, value.to_owned(), Source::CommandLine);
    }
    java::translate(&all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_stores_type_and_its_place_may_come_from_file_and_command_line() {
        let path = std::env::temp_dir().join(format!("laneway-stores-{}", std::process::id()));
        let read_with = |text: &str, given: &[&str]| {
            std::fs::write(&path, text).unwrap();
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            let all = read(Some(&path), &given);
            std::fs::remove_file(&path).unwrap();
            all
        };
        let all = read_with("ssl.truststore.type=PEM\n", &["ssl.truststore.location=/ca"]).unwrap();
        assert_eq!(all.value("ssl.ca.location"), Some("/ca"));
        // A store of the file that the command line takes the place of is not looked at.
        let all = read_with("ssl.truststore.location=/a.jks\n", &["ssl.truststore.location=/b.pem"]).unwrap();
        assert_eq!(all.value("ssl.ca.location"), Some("/b.pem"));
    }
}
