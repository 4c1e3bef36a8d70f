//! How much of what was given may be shown in an error: a secret may have been put where something else belongs.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A value as it may be shown. A short plain word is shown whole; of KEY=VALUE, and of what was to be that, the name
/// alone; of anything else nothing.
pub(crate) fn shown(value: &str) -> &str {
    let end = value.find(|character| !is_of_a_name(character) && character != '+').unwrap_or(value.len());
    // `25 s` was meant to be a time.
    let is_short = value.len() <= 8 && value.starts_with(|first: char| first.is_ascii_digit());
    let is_time =
        is_short && value.chars().all(|character| character == ' ' || character.is_ascii_alphanumeric());
    if is_time || (end == value.len() && end <= LONGEST_WORD) {
        return value;
    }
    let name = &value[..end];
    if is_a_propertys_name(name.trim_start_matches('-')) && name.contains('.') { name } else { NOT_SHOWN }
}

/// A path, up to an equals sign, or to where its last part stops to look like the name of a property.
pub(crate) fn shown_path(path: &Path) -> String {
    let path = path.display().to_string();
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    let name = leading_name(&path[last..]);
    let end = if name.contains('.') { last + name.len() } else { path.len() };
    let end = path.find('=').map_or(end, |equals| equals.min(end));
    if end < path.len() { format!("{}...", &path[..end]) } else { path }
}

/// What may be shown of a text that was to be KEY=VALUE: behind the name may be a secret.
pub(crate) fn leading_name(text: &str) -> &str {
    text.find(|character| !is_of_a_name(character)).map_or(text, |end| &text[..end])
}

/// Whether this looks like the name of a property, and not like a piece of a key or of a password.
pub(crate) fn is_a_propertys_name(text: &str) -> bool {
    let is_fitting = |character: char| is_of_a_name(character) && !character.is_ascii_uppercase();
    text.len() <= LONGEST_NAME && text.chars().all(is_fitting)
}

fn is_of_a_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._-".contains(character)
}

/// An error of the command line that shows no more than it may.
pub(crate) fn without_values(mut error: clap::Error) -> clap::Error {
    let kinds = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue];
    for kind in kinds {
        let Some(ContextValue::String(given)) = error.get(kind) else { continue };
        let may_be_shown = match (kind, error.kind()) {
            // A word that belongs to no flag: perhaps a value that came apart from its name.
            (ContextKind::InvalidArg, ErrorKind::UnknownArgument) if !given.starts_with('-') => {
                let name = shown(given);
                if name.len() < given.len() { name } else { NOT_SHOWN }
            }
            (ContextKind::InvalidArg, ErrorKind::UnknownArgument) => shown(given),
            // A flag of ours, as its usage has it.
            (ContextKind::InvalidArg, _) => continue,
            (_, ErrorKind::TooManyValues) => NOT_SHOWN,
            _ => shown(given),
        };
        if may_be_shown != given {
            let may_be_shown = may_be_shown.to_owned();
            error.insert(kind, ContextValue::String(may_be_shown));
            // Tips repeat what was given.
            error.remove(ContextKind::Suggested);
        }
    }
    error
}

const NOT_SHOWN: &str = "(not shown: it may be a secret)";
const LONGEST_WORD: usize = 40;
const LONGEST_NAME: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_path_everything_is_shown_but_what_looks_like_a_property() {
        for path in ["/etc/client.properties", "my client.properties", "a.b/c d"] {
            assert_eq!(shown_path(Path::new(path)), path);
        }
        assert_eq!(shown_path(Path::new("/a/sasl.password=x/y")), "/a/sasl.password...");
        assert_eq!(shown_path(Path::new("/a/sasl.password x")), "/a/sasl.password...");
    }

    #[test]
    fn of_what_may_be_a_secret_the_name_is_shown_at_most() {
        for word in ["sometimes", "42", "1m30s", "25 s", "-1", "--wrong", "sasl.password"] {
            assert_eq!(shown(word), word);
        }
        for text in
            ["sasl.password=x", "sasl.password x", "sasl.password:x", "sasl.password=x y", "sasl.password=="]
        {
            assert_eq!(shown(text), "sasl.password");
        }
        assert_eq!(shown("--sasl.password=x"), "--sasl.password");
        // Base64 that ends with padding, a line of a key, a password with blanks.
        for text in [
            "aHVudGVyMg==",
            "hunter2=",
            "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA",
            "hunter 2",
            "Hunter.2=x",
        ] {
            assert_eq!(shown(text), NOT_SHOWN);
        }
    }
}
