//! A JAAS line, as far as it is user and password: PLAIN and SCRAM.

/// The user and the password of a `sasl.jaas.config` line.
///
/// # Errors
/// Says what is wrong with it, and never shows it.
pub(super) fn user_and_password(line: &str) -> Result<(String, String), String> {
    let mut words = Words { rest: line.trim() };
    let module = words.next_name().unwrap_or_default();
    let short = module.rsplit('.').next().unwrap_or_default();
    if !matches!(short, "PlainLoginModule" | "ScramLoginModule") {
        let known = if module.ends_with("LoginModule") { short } else { "its login module" };
        return Err(format!("{known} is not understood: PlainLoginModule or ScramLoginModule is wanted"));
    }
    let (mut user, mut password) = (None, None);
    while let Some(name) = words.next_name() {
        let Some(value) = words.value() else { continue };
        match name.as_str() {
            "username" => user = Some(value),
            "password" => password = Some(value),
            "tokenauth" if value.eq_ignore_ascii_case("true") => {
                return Err(
                    "tokenauth is not understood: librdkafka has no delegation tokens, give a user's \
                            own name and password"
                        .into(),
                );
            }
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
    /// What stands before an `=`, or a word without one.
    fn next_name(&mut self) -> Option<String> {
        self.next_word(|character| character == '=')
    }

    /// What stands after an `=`, if one is next. Without quotes it may hold more of them.
    fn value(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start().strip_prefix('=')?;
        self.next_word(|_| false)
    }

    fn next_word(&mut self, also_ends: impl Fn(char) -> bool) -> Option<String> {
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
                (character, None)
                    if character.is_whitespace() || character == ';' || also_ends(character) =>
                {
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
    fn an_equals_sign_may_stand_apart_and_inside_of_what_is_quoted() {
        let line = "x.ScramLoginModule required username = \"u=v\" password= '=';";
        assert_eq!(user_and_password(line).unwrap(), ("u=v".into(), "=".into()));
    }

    #[test]
    fn a_delegation_token_is_refused() {
        let line = "x.ScramLoginModule required username=\"u\" password=\"hunter2\" tokenauth=\"true\";";
        let error = user_and_password(line).unwrap_err();
        assert!(error.contains("tokenauth") && !error.contains("hunter2"), "{error}");
        assert!(user_and_password(&line.replace("true", "false")).is_ok());
    }

    #[test]
    fn other_modules_are_refused_and_nothing_is_shown() {
        let line = "com.sun.security.auth.module.Krb5LoginModule required password=\"hunter2\";";
        let error = user_and_password(line).unwrap_err();
        assert!(error.contains("Krb5LoginModule") && !error.contains("hunter2"), "{error}");
    }
}
