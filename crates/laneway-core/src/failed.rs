//! What a record carries of its failures, in headers: written with dead letters and with records that wait in a retry
//! topic, where they are read again. Their names are a contract.

/// Where a record that failed came from, how often it was tried, and why it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The topic that it was first read from.
    pub topic: String,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its time there, if it has one. All times are milliseconds since 1970 (UTC).
    pub timestamp: Option<i64>,
    /// The group that could not handle it; empty: there was none.
    pub group: String,
    /// Tries so far, wherever they were.
    pub attempts: u32,
    /// When it first failed.
    pub first_failure: i64,
    /// When it last failed.
    pub last_failure: i64,
    /// When it is to be tried again; a dead letter is not.
    pub due: Option<i64>,
    /// Why it failed in each topic that it was tried in, the last one last.
    pub errors: Vec<String>,
}

impl Failed {
    /// Adds why it failed, and cuts what was known before.
    pub fn add_error(&mut self, error: &str) {
        if let Some(before) = self.errors.last_mut() {
            *before = cut(before, LONGEST_EARLIER_ERROR);
        }
        if self.errors.len() >= MOST_ERRORS {
            self.errors.drain(..=self.errors.len() - MOST_ERRORS);
        }
        self.errors.push(cut(error, LONGEST_ERROR));
    }

    /// The headers that say all this, to go behind the record's own.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (TOPIC, self.topic.clone()),
            (PARTITION, self.partition.to_string()),
            (OFFSET, self.offset.to_string()),
        ];
        headers.extend(self.timestamp.map(|time| (TIMESTAMP, time.to_string())));
        if !self.group.is_empty() {
            headers.push((GROUP, self.group.clone()));
        }
        headers.extend([
            (ATTEMPTS, self.attempts.to_string()),
            (FIRST_FAILURE, self.first_failure.to_string()),
            (LAST_FAILURE, self.last_failure.to_string()),
        ]);
        headers.extend(self.due.map(|time| (DUE, time.to_string())));
        headers.extend(self.errors.iter().map(|error| (ERROR, error.clone())));
        headers
    }

    /// Reads them again, from all headers of a record, and how many headers there are before them: the record's own,
    /// among which there may be some of an earlier failure. `None`: there are none.
    ///
    /// # Errors
    /// Where they are not as they were written: which one, and why.
    pub fn read<'a>(
        headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<Option<(Self, usize)>, String> {
        let headers: Vec<_> = headers.into_iter().collect();
        let Some(begin) = headers.iter().rposition(|(name, _)| *name == TOPIC.as_bytes()) else {
            return Ok(None);
        };
        let mut tail = Tail(Vec::new());
        for (name, value) in &headers[begin..] {
            let known = NAMES.into_iter().find(|known| known.as_bytes() == *name);
            let name =
                known.ok_or_else(|| format!("there is a header \"{}\" among them", name.escape_ascii()))?;
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            tail.0.push((name, text.ok_or_else(|| format!("{name} is not text"))?));
        }
        let read = Self {
            topic: tail.text(TOPIC)?,
            partition: tail.number(PARTITION)?,
            offset: tail.number(OFFSET)?,
            timestamp: tail.number_if_any(TIMESTAMP)?,
            group: tail.find(GROUP)?.unwrap_or_default().to_owned(),
            attempts: tail.number(ATTEMPTS)?,
            first_failure: tail.number(FIRST_FAILURE)?,
            last_failure: tail.number(LAST_FAILURE)?,
            due: tail.number_if_any(DUE)?,
            errors: tail
                .0
                .iter()
                .filter(|(name, _)| *name == ERROR)
                .map(|(_, text)| cut(text, LONGEST_ERROR))
                .collect(),
        };
        if read.partition < 0 || read.offset < 0 || read.attempts == 0 || read.errors.is_empty() {
            return Err("no record can have failed so".into());
        }
        Ok(Some((read, begin)))
    }
}

/// The headers that are ours.
struct Tail<'a>(Vec<(&'static str, &'a str)>);

impl Tail<'_> {
    fn find(&self, name: &'static str) -> Result<Option<&str>, String> {
        let mut all = self.0.iter().filter(|(found, _)| *found == name).map(|(_, text)| *text);
        let first = all.next();
        if all.next().is_some() {
            return Err(format!("{name} is there more than once"));
        }
        Ok(first)
    }

    fn text(&self, name: &'static str) -> Result<String, String> {
        self.find(name)?
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| format!("{name} is missing"))
    }

    fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, String> {
        self.number_if_any(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    fn number_if_any<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, String> {
        let Some(text) = self.find(name)? else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| format!("{name} is \"{}\", and no such number", cut(text, SHOWN).escape_debug()))
    }
}

/// Cuts an error to what is told of it, in headers and anywhere else.
pub fn cut_error(error: &mut String) {
    if error.len() > LONGEST_ERROR {
        *error = cut(error, LONGEST_ERROR);
    }
}

/// A text, cut to a size that a header can have.
fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let mut end = longest - CUT.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &text[..end])
}

const TOPIC: &str = "laneway.topic";
const PARTITION: &str = "laneway.partition";
const OFFSET: &str = "laneway.offset";
const TIMESTAMP: &str = "laneway.timestamp";
const GROUP: &str = "laneway.group";
const ATTEMPTS: &str = "laneway.attempts";
const FIRST_FAILURE: &str = "laneway.first-failure";
const LAST_FAILURE: &str = "laneway.last-failure";
const DUE: &str = "laneway.due";
const ERROR: &str = "laneway.error";
const NAMES: [&str; 10] =
    [TOPIC, PARTITION, OFFSET, TIMESTAMP, GROUP, ATTEMPTS, FIRST_FAILURE, LAST_FAILURE, DUE, ERROR];
/// Bytes of the last error, and of each one before it.
const LONGEST_ERROR: usize = 4_096;
const LONGEST_EARLIER_ERROR: usize = 1_024;
/// How many errors are kept; the first ones go first.
const MOST_ERRORS: usize = 16;
/// Bytes of a value that is shown because it is wrong.
const SHOWN: usize = 32;
const CUT: &str = "...";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn failed() -> Failed {
        Failed {
            topic: "orders".into(),
            partition: 3,
            offset: 41,
            timestamp: Some(1_700_000_000_000),
            group: "billing".into(),
            attempts: 2,
            first_failure: 1_700_000_000_100,
            last_failure: 1_700_000_000_200,
            due: Some(1_700_000_005_200),
            errors: vec!["timed out".into(), "refused".into()],
        }
    }

    fn bytes(failed: &Failed) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        failed.headers().into_iter().map(|(name, value)| (name.into(), Some(value.into_bytes()))).collect()
    }

    fn read(headers: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<Option<(Failed, usize)>, String> {
        Failed::read(headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())))
    }

    #[test]
    fn what_is_written_is_read_again_behind_the_headers_of_the_record_and_of_an_earlier_failure() {
        let letter = Failed { timestamp: None, due: None, ..failed() };
        let mut headers = vec![(b"trace".to_vec(), None)];
        headers.extend(bytes(&letter));
        assert_eq!(read(&headers).unwrap().unwrap(), (letter, 1));
        let own = headers.len();
        headers.extend(bytes(&failed()));
        assert_eq!(read(&headers).unwrap().unwrap(), (failed(), own));
        assert_eq!(read(&headers[..1]).unwrap(), None);
    }

    #[test]
    fn headers_that_are_not_as_they_were_written_are_void_and_named() {
        let whole = bytes(&failed());
        for (name, value, said) in [
            ("laneway.offset", Some("4x"), "laneway.offset is \"4x\""),
            ("laneway.offset", Some("-1"), "no record"),
            ("laneway.attempts", Some("0"), "no record"),
            ("laneway.group", None, "laneway.group is not text"),
            ("laneway.topic", Some(""), "laneway.topic is missing"),
        ] {
            let mut headers = whole.clone();
            let header = headers.iter_mut().find(|(found, _)| found == name.as_bytes()).unwrap();
            header.1 = value.map(|value| value.as_bytes().to_vec());
            let error = read(&headers).expect_err(name);
            assert!(error.contains(said), "{error}");
        }
        let mut without = whole.clone();
        without.retain(|(name, _)| name != b"laneway.last-failure");
        assert!(read(&without).unwrap_err().contains("laneway.last-failure is missing"));
        let mut twice = whole.clone();
        twice.push((b"laneway.due".to_vec(), Some(b"1".to_vec())));
        assert!(read(&twice).unwrap_err().contains("more than once"));
        let mut foreign = whole;
        foreign.push((b"other".to_vec(), None));
        assert!(read(&foreign).unwrap_err().contains("\"other\""));
    }

    #[test]
    fn errors_are_cut_between_characters_and_are_no_more_than_headers_can_hold() {
        let mut failed = Failed { errors: Vec::new(), ..failed() };
        let long = "ä".repeat(3_000);
        (0..40).for_each(|_| failed.add_error(&long));
        failed.add_error("short");
        assert_eq!(failed.errors.len(), MOST_ERRORS);
        assert_eq!(failed.errors[MOST_ERRORS - 1], "short");
        for error in &failed.errors[..MOST_ERRORS - 1] {
            assert!(error.len() <= LONGEST_EARLIER_ERROR && error.ends_with("ä..."), "{}", error.len());
        }
        failed.add_error(&long);
        assert!((LONGEST_ERROR - 4..=LONGEST_ERROR).contains(&failed.errors[MOST_ERRORS - 1].len()));
    }
}
