//! What a worker may answer.

use std::time::Duration;

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
    let given = |name: &str| value.get(name).filter(|given| !given.is_null());
    let (ok, after) = (given("ok"), given("retry_after_ms"));
    let outcome = match (ok, given("error"), after, given("dead_letter"), given("skip")) {
        (Some(Value::Bool(true)), None, None, None, None) => Outcome::Done,
        (None | Some(Value::Bool(false)), Some(Value::String(error)), None, None, None) => {
            Outcome::Retry { error: cut(error), after: None }
        }
        (None | Some(Value::Bool(false)), Some(Value::String(error)), Some(after), None, None) => {
            let after =
                after.as_u64().ok_or_else(|| wrong("retry_after_ms that are not a number from 0 on"))?;
            let after = Duration::from_millis(after).min(LONGEST_RETRY);
            Outcome::Retry { error: cut(error), after: Some(after) }
        }
        (None, None, None, Some(Value::String(reason)), None) => Outcome::DeadLetter { reason: cut(reason) },
        (None, None, None, None, Some(Value::String(reason))) => Outcome::Skip { reason: cut(reason) },
        _ => {
            return Err(wrong(
                "none of {\"ok\":true}, {\"error\":\"why\"}, {\"dead_letter\":\"why\"} and {\"skip\":\"why\"}",
            ));
        }
    };
    Ok(Answer { offset, outcome })
}

/// A line as it can be shown: as it is, but cut, and without what would do something to a terminal.
pub(super) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::new();
    for character in text.chars().take(LONGEST) {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
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

/// The longest wait that is asked for: ten years.
const LONGEST_RETRY: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);
/// Characters of an error that are reported.
const LONGEST_ERROR: usize = 2_000;
/// Characters of a line that are shown.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn each_kind_of_answer_is_read() {
        let done = parse(br#"{"offset":42,"ok":true}"#).unwrap();
        assert_eq!(done, Answer { offset: 42, outcome: Outcome::Done });
        let failed = parse(br#" {"error":"why", "offset":7} "#).unwrap();
        assert_eq!(failed.outcome, Outcome::Retry { error: "why".into(), after: None });
        let later = parse(br#"{"offset":7,"retry_after_ms":500,"error":"why"}"#).unwrap();
        let after = Some(Duration::from_millis(500));
        assert_eq!(later.outcome, Outcome::Retry { error: "why".into(), after });
        let dead = parse(br#"{"offset":7,"dead_letter":"why"}"#).unwrap();
        assert_eq!(dead.outcome, Outcome::DeadLetter { reason: "why".into() });
        let skipped = parse(br#"{"offset":7,"skip":"why"}"#).unwrap();
        assert_eq!(skipped.outcome, Outcome::Skip { reason: "why".into() });
        let longest = parse(br#"{"offset":7,"retry_after_ms":18446744073709551615,"error":""}"#).unwrap();
        assert_eq!(longest.outcome, Outcome::Retry { error: String::new(), after: Some(LONGEST_RETRY) });
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
            "{\"offset\":1,\"ok\":true,\"skip\":\"both\"}",
            "{\"offset\":1,\"skip\":\"both\",\"dead_letter\":\"both\"}",
            "{\"offset\":1,\"error\":\"why\",\"retry_after_ms\":-1}",
            "{\"offset\":1,\"retry_after_ms\":1}",
            "{\"offset\":1,\"skip\":true}",
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.ends_with(line), "{error}");
        }
    }

    #[test]
    fn a_line_is_shown_as_it_is_but_for_what_a_terminal_would_heed() {
        assert_eq!(
            shown(r#"{"offset":1,"it's":"a\\b","ü":1}"#.as_bytes()),
            r#"{"offset":1,"it's":"a\\b","ü":1}"#
        );
        assert_eq!(shown(b"\x1b[2J\ttab\xff"), "\\u{1b}[2J\\ttab\u{fffd}");
        assert_eq!(shown("x".repeat(LONGEST + 1).as_bytes()), "x".repeat(LONGEST) + "...");
    }
}
