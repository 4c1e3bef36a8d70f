//! Client properties from `-F` and `-X`: Java's spelling or librdkafka's, brought to librdkafka's.

mod file;
mod jaas;
mod java;

use std::path::Path;

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
        let shown = path.display();
        let text = std::fs::read(path).map_err(|error| format!("properties file {shown}: {error}"))?;
        let pairs = file::parse(&text).map_err(|error| format!("properties file {shown}: {error}"))?;
        java::translate(pairs, Source::File, &mut all)?;
    }
    let mut pairs = Vec::new();
    for text in given {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            format!("-X \"{}\": KEY=VALUE is wanted", text.split(':').next().unwrap_or_default())
        })?;
        if key.trim().is_empty() {
            return Err("-X: the name of a property is missing before \"=\"".into());
        }
        pairs.push((key.trim().to_owned(), value.to_owned()));
    }
    java::translate(pairs, Source::CommandLine, &mut all)?;
    Ok(all)
}
