//! A JAAS line, as far as it is user and password: PLAIN and SCRAM.

/// The user and the password of a `sasl.jaas.config` line.
///
/// # Errors
/// Says what is wrong with it, and never shows it.
pub(super) fn user_and_password(line: &str) -> Result<(String, String), String> {
    let mut words = Words { rest: line.trim() };
    let module = words.next_word().unwrap_or_default();
    let short = module.rsplit('.').next().unwrap_or_default();
    if !matches!(short, "PlainLoginModule" | "ScramLoginModule") {
        let known = if module.ends_with("LoginModule") { short } else { "its login module" };
        return Err(format!("{known} is not understood: PlainLoginModule or ScramLoginModule is wanted"));
    }
    let (mut user, mut password) = (None, None);
    while let Some(word) = words.next_word() {
        let Some((key, value)) = word.split_once('=') else { continue };
        match key {
            "username" => user = Some(value.to_owned()),
            "password" => password = Some(value.to_owned()),
            _ => {}
        }
    }
    match (user, password) {
        (Some(user), Some(password)) => Ok((user, password)),
        (None, _) => Err("it has no username=\"...\"".into()),
        (_, None) => Err("it has no password=\"...\"".into()),
    }
}

/// Words apart by white space; what is quoted belongs to one word, without its quotes.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn next_word(&mut self) -> Option<String> {
        let mut word = String::new();
        let mut quote = None;
        let mut is_word = false;
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match (character, quote) {
                ('\\', Some(_)) => word.extend(characters.next().map(|(_, escaped)| escaped)),
                (character, Some(open)) if character == open => quote = None,
                (character, Some(_)) => word.push(character),
                ('"' | '\'', None) => (quote, is_word) = (Some(character), true),
                (character, None) if character.is_whitespace() || character == ';' => {
                    if is_word {
                        self.rest = &self.rest[at..];
                        return Some(word);
                    }
                }
                (character, None) => {
                    is_word = true;
                    word.push(character);
                }
            }
        }
        self.rest = "";
        is_word.then_some(word)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn user_and_password_are_found_with_their_quotes_off() {
        let line = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"al ice\" \
                    password='s\\'3;cret' ;";
        assert_eq!(user_and_password(line).unwrap(), ("al ice".into(), "s'3;cret".into()));
    }

    #[test]
    fn other_modules_are_refused_and_nothing_is_shown() {
        let line = "com.sun.security.auth.module.Krb5LoginModule required password=\"hunter2\";";
        let error = user_and_password(line).unwrap_err();
        assert!(error.contains("Krb5LoginModule") && !error.contains("hunter2"), "{error}");
    }
}
