//! The syntax of Java's .properties files.

/// A pair, and the number of the line on which it begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: String,
    /// There is nothing on the line but the key.
    pub(super) is_bare: bool,
}

/// The pairs of a file, in their order.
///
/// # Errors
/// Names the line, and shows nothing of it.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Pair>, String> {
    let text = match std::str::from_utf8(text) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        // Java's older files are Latin-1.
        Err(_) => text.iter().map(|byte| char::from(*byte)).collect(),
    };
    // What looks like a line of its own between the two is blank.
    let text = text.replace("\r\n", "\n");
    let mut pairs = Vec::new();
    let mut lines = text.split(['\n', '\r']).enumerate();
    while let Some((number, line)) = lines.next() {
        let mut whole = line.trim_start_matches(WHITE).to_owned();
        if whole.is_empty() || whole.starts_with(['#', '!']) {
            continue;
        }
        while continues(&whole) {
            whole.pop();
            match lines.next() {
                Some((_, next)) => whole.push_str(next.trim_start_matches(WHITE)),
                None => break,
            }
        }
        let line = number + 1;
        let at = |error: String| format!("line {line}: {error}");
        let (key, rest) = split(&whole);
        let is_bare = rest.is_none();
        let key = unescape(key).map_err(at)?;
        if key.is_empty() {
            return Err(at("the name of a property is missing".into()));
        }
        pairs.push(Pair { line, key, value: unescape(rest.unwrap_or_default()).map_err(at)?, is_bare });
    }
    Ok(pairs)
}

/// An odd number of backslashes at the end.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, character)| {
        let ends = !escaped && (matches!(character, '=' | ':') || WHITE.contains(character));
        escaped = !escaped && *character == '\\';
        ends
    });
    let Some((end, _)) = end else { return (line, None) };
    let rest = line[end..].trim_start_matches(WHITE);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], Some(value.trim_start_matches(WHITE)))
}

fn unescape(text: &str) -> Result<String, String> {
    // In UTF-16, as in Java: what is beyond the basic plane is escaped as two surrogates.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('f') => '\u{c}',
                Some('u') => {
                    units.push(unit(&mut characters)?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| "half of a pair of \\u escapes is missing".into())
}

fn unit(characters: &mut std::str::Chars<'_>) -> Result<u16, String> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit = characters
            .next()
            .and_then(|digit| digit.to_digit(16))
            .and_then(|digit| u16::try_from(digit).ok());
        unit = unit * 16 + digit.ok_or("a \\u escape needs four hexadecimal digits")?;
    }
    Ok(unit)
}

/// White space, as Java has it here.
const WHITE: &[char] = &[' ', '\t', '\u{c}'];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        pairs_of(text.as_bytes())
    }

    fn pairs_of(bytes: &[u8]) -> Vec<(String, String)> {
        parse(bytes).unwrap().into_iter().map(|pair| (pair.key, pair.value)).collect()
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
        assert_eq!(pairs_of(b"a=\xe4"), [pair("a", "ä")]);
    }
    #[test]
    fn a_byte_order_mark_belongs_to_no_name() {
        assert_eq!(pairs("\u{feff}a=1\n\u{feff}b=2"), [pair("a", "1"), pair("\u{feff}b", "2")]);
    }

    #[test]
    fn escapes_are_units_of_utf_16_as_in_java() {
        assert_eq!(pairs("a=\\ud83d\\uDE00\\u00e9x😀"), [pair("a", "😀éx😀")]);
        for wrong in ["a=\\ud83d", "a=\\ude00\\ud83d", "a=\\ud83dx", "a=\\u+041", "a=\\u12"] {
            let error = parse(wrong.as_bytes()).unwrap_err();
            assert!(error.starts_with("line 1: ") && !error.contains("d83"), "{error}");
        }
    }

    #[test]
    fn lines_end_and_white_space_is_as_in_java() {
        // A carriage return alone ends a line, a form feed is white, and a no-break space is not.
        assert_eq!(
            pairs("a=1\rb\u{c}2\r\nc=\u{a0}3\\\r\n  4\\\r 5\r\r"),
            [pair("a", "1"), pair("b", "2"), pair("c", "\u{a0}345")]
        );
    }

    #[test]
    fn a_line_of_a_name_alone_is_told_apart() {
        let bare = |text: &str| parse(text.as_bytes()).unwrap().pop().unwrap().is_bare;
        assert!(bare("hunter2") && !bare("hunter2=") && !bare("hunter2 "));
    }
}
