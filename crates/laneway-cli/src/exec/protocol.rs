//! What a worker may answer.

use laneway::Outcome;
use serde_json::Value;

/// An answer for one record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) offset: i64,
    pub(super) outcome: Outcome,
}

/// Reads one line, without its end.
///
/// # Errors
/// Says what is wrong with it, the line included.
pub(super) fn parse(line: &[u8]) -> Result<Answer, String> {
    let wrong = |what: &str| format!("answered {what}: {}", shown(line));
    let value: Value = serde_json::from_slice(line).map_err(|_| wrong("what is not JSON"))?;
    let offset =
        value.get("offset").and_then(Value::as_i64).ok_or_else(|| wrong("without a record's offset"))?;
    let error = value.get("error").filter(|error| !error.is_null());
    let outcome = match (value.get("ok"), error) {
        (Some(Value::Bool(true)), None) => Outcome::Done,
        (None | Some(Value::Bool(false)), Some(Value::String(error))) => {
            Outcome::Retry { error: cut(error), after: None }
        }
        _ => return Err(wrong("neither {\"ok\":true} nor {\"error\":\"why\"}")),
    };
    Ok(Answer { offset, outcome })
}

/// A line as it can be shown: cut, and on one line.
pub(super) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// An error's text as it is reported.
fn cut(error: &str) -> String {
    match error.char_indices().nth(LONGEST_ERROR) {
        Some((end, _)) => format!("{}...", &error[..end]),
        None => error.to_owned(),
    }
}

/// Characters of an error that are reported.
const LONGEST_ERROR: usize = 2_000;
/// Characters of a line that are shown.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn both_kinds_of_answer_are_read() {
        let done = parse(br#"{"offset":42,"ok":true}"#).unwrap();
        assert_eq!(done, Answer { offset: 42, outcome: Outcome::Done });
        let failed = parse(br#" {"error":"why", "offset":7} "#).unwrap();
        assert_eq!(failed.outcome, Outcome::Retry { error: "why".into(), after: None });
    }

    #[test]
    fn anything_else_is_told_with_the_line() {
        for line in [
            "nonsense",
            "{\"ok\":true}",
            "{\"offset\":1}",
            "{\"offset\":1,\"ok\":\"yes\"}",
            "[]",
            "",
            "{\"offset\":1.5,\"ok\":true}",
            "{\"offset\":1,\"ok\":true,\"error\":\"both\"}",
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(&shown(line.as_bytes())), "{error}");
        }
    }
}
