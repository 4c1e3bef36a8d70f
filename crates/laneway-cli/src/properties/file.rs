//! The syntax of Java's .properties files.

/// The pairs of a file, in their order.
///
/// # Errors
/// Names the line.
pub(super) fn parse(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = match std::str::from_utf8(text) {
        Ok(text) => text.to_owned(),
        // Java's older files are Latin-1.
        Err(_) => text.iter().map(|byte| char::from(*byte)).collect(),
    };
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut whole = line.trim_start().to_owned();
        if whole.is_empty() || whole.starts_with(['#', '!']) {
            continue;
        }
        while continues(&whole) {
            whole.pop();
            match lines.next() {
                Some((_, next)) => whole.push_str(next.trim_start()),
                None => break,
            }
        }
        let at = |error: String| format!("line {}: {error}", number + 1);
        let (key, value) = split(&whole);
        let key = unescape(key).map_err(at)?;
        if key.is_empty() {
            return Err(at("the name of a property is missing".into()));
        }
        pairs.push((key, unescape(value).map_err(at)?));
    }
    Ok(pairs)
}

/// An odd number of backslashes at the end.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, character)| {
        let ends = !escaped && (matches!(character, '=' | ':') || character.is_whitespace());
        escaped = !escaped && *character == '\\';
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let rest = line[end..].trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], value.trim_start())
}

fn unescape(text: &str) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            result.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => result.push('\n'),
            Some('r') => result.push('\r'),
            Some('t') => result.push('\t'),
            Some('f') => result.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let character = code.and_then(char::from_u32);
                result.push(character.ok_or("a \\u escape needs four hexadecimal digits of one character")?);
            }
            Some(other) => result.push(other),
            None => {}
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn every_way_of_writing_a_pair_is_read() {
        let text = "# no\n! no\n\na=1\n b : 2\nc 3\nd\ne=\\\n   long\nf\\=g=h\\u0041\\t\nlast = a=b ";
        let wanted = [
            pair("a", "1"),
            pair("b", "2"),
            pair("c", "3"),
            pair("d", ""),
            pair("e", "long"),
            pair("f=g", "hA\t"),
            pair("last", "a=b "),
        ];
        assert_eq!(pairs(text), wanted);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        assert!(parse(b"a=1\nb=\\u12").unwrap_err().contains("line 2"));
        assert!(parse(b"=1").unwrap_err().contains("line 1"));
    }

    #[test]
    fn latin_1_is_read_too() {
        assert_eq!(parse(b"a=\xe4").unwrap(), [pair("a", "ä")]);
    }
}
