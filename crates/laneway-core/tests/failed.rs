//! Headers of failures: what is written is read again, and nothing that comes makes a panic or a wrong answer.

use laneway_core::Failed;
use proptest::prelude::*;

type Header = (Vec<u8>, Option<Vec<u8>>);

fn read(headers: &[Header]) -> Result<Option<(Failed, usize)>, String> {
    Failed::read(headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())))
}

fn written(failed: &Failed) -> Vec<Header> {
    failed.headers().into_iter().map(|(name, value)| (name.into(), Some(value.into_bytes()))).collect()
}

const NAMES: &[&str] =
    &["topic", "partition", "offset", "timestamp", "group", "attempts", "first-failure", "due", "error"];

fn any_header() -> impl Strategy<Value = Header> {
    let name = prop_oneof![
        4 => proptest::sample::select(NAMES).prop_map(|name| format!("laneway.{name}").into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let value = prop_oneof![
        any::<i64>().prop_map(|number| Some(number.to_string().into_bytes())),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
    ];
    (name, value)
}

prop_compose! {
    fn any_failed()(
        (topic, group) in (".{1,20}", ".{1,20}"),
        (partition, offset) in (0..i32::MAX, 0..i64::MAX),
        timestamp in proptest::option::of(any::<i64>()),
        attempts in 1..u32::MAX,
        (first_failure, last_failure) in any::<(i64, i64)>(),
        due in proptest::option::of(any::<i64>()),
        errors in proptest::collection::vec(".{0,40}", 1..20),
    ) -> Failed {
        Failed { topic, partition, offset, timestamp, group, attempts, first_failure, last_failure, due, errors }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_behind_whatever_headers(
        failed in any_failed(),
        own in proptest::collection::vec(any_header(), 0..6),
    ) {
        let headers = [own.clone(), written(&failed)].concat();
        prop_assert_eq!(read(&headers), Ok(Some((failed, own.len()))));
    }

    #[test]
    fn headers_that_are_damaged_are_void_or_say_what_they_say(
        failed in any_failed(),
        extra in any_header(),
        (at, is_added) in (0..20usize, any::<bool>()),
    ) {
        let mut headers = written(&failed);
        let at = at % headers.len();
        if is_added {
            headers.insert(at, extra);
        } else {
            headers[at] = extra;
        }
        if let Ok(Some((found, own))) = read(&headers) {
            let again = [headers[..own].to_vec(), written(&found)].concat();
            prop_assert_eq!(read(&again), Ok(Some((found, own))));
        }
    }
}
