//! The topics that failed records wait in before they are tried again.

use std::time::Duration;

use crate::builder::LONGEST_TIME;
use crate::error::{Error, ErrorKind};

/// Retry topics, in the order in which a record goes through them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RetryTopics(Vec<(String, Duration)>);

impl RetryTopics {
    pub(crate) fn add(&mut self, topics: impl IntoIterator<Item = (String, Duration)>) {
        self.0.extend(topics.into_iter().map(|(topic, delay)| (topic, delay.min(LONGEST_TIME))));
    }

    pub(crate) fn check(&self, dead_letters: Option<&str>) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Config, message));
        for (number, (topic, delay)) in self.0.iter().enumerate() {
            if delay.is_zero() {
                return refuse(format!(
                    "retry topic \"{topic}\" has a delay of 0: more than that is wanted, such as 5 s"
                ));
            }
            if self.0[..number].iter().any(|(before, _)| before == topic) {
                return refuse(format!("retry topic \"{topic}\" is given more than once"));
            }
            if dead_letters == Some(topic) {
                return refuse(format!(
                    "\"{topic}\" can't be both a retry topic and the one for dead letters"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// How long records wait in a topic, if it is one of these.
    pub(crate) fn delay_in(&self, topic: &str) -> Option<Duration> {
        self.0.iter().find(|(name, _)| name == topic).map(|(_, delay)| *delay)
    }

    /// Where a record goes that failed in a topic: to the next one, or the first of the next ones that has it wait as
    /// long as was asked for. `None`: it was in the last one.
    pub(crate) fn next(&self, topic: &str, after: Option<Duration>) -> Option<(usize, Duration)> {
        let here = self.0.iter().position(|(name, _)| name == topic);
        let from = here.map_or(0, |here| here + 1);
        let last = self.0.len().checked_sub(1).filter(|last| *last >= from)?;
        let is_long_enough = |at: &usize| self.0[*at].1 >= after.unwrap_or_default();
        let at = (from..=last).find(is_long_enough).unwrap_or(last);
        Some((at, self.0[at].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_goes_to_the_next_topic_or_to_one_that_has_it_wait_as_long_as_was_asked_for() {
        let seconds = Duration::from_secs;
        let mut topics = RetryTopics::default();
        assert_eq!(topics.next("orders", None), None);
        topics.add([("5s".into(), seconds(5)), ("1m".into(), seconds(60)), ("1h".into(), seconds(3_600))]);
        for (topic, after, next) in [
            ("orders", None, Some(0)),
            ("orders", Some(6), Some(1)),
            ("orders", Some(4_000), Some(2)),
            ("5s", None, Some(1)),
            ("5s", Some(61), Some(2)),
            ("1m", Some(1), Some(2)),
            ("1h", None, None),
            ("1h", Some(1), None),
        ] {
            assert_eq!(topics.next(topic, after.map(seconds)).map(|(at, _)| at), next, "{topic} {after:?}");
        }
        assert_eq!((topics.delay_in("1m"), topics.delay_in("orders")), (Some(seconds(60)), None));
    }
}
