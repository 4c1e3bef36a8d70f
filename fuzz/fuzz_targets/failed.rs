//! The headers that say of a record's failures: as they come, and as they were written.
//!
//! `cargo +nightly fuzz run failed`
#![no_main]

use laneway_core::Failed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    // Headers are parted by zero bytes, a name from its value by a one.
    let mut headers: Vec<(Vec<u8>, Option<Vec<u8>>)> = data
        .split(|byte| *byte == 0)
        .map(|header| match header.iter().position(|byte| *byte == 1) {
            Some(at) => (header[..at].to_vec(), Some(header[at + 1..].to_vec())),
            None => (header.to_vec(), None),
        })
        .collect();
    if kind % 2 == 1 {
        // Names that are ours, so that more than the first one is looked at.
        const NAMES: [&str; 10] = [
            "topic", "partition", "offset", "timestamp", "group", "attempts", "first-failure", "last-failure", "due",
            "error",
        ];
        for (name, _) in &mut headers {
            let at = usize::from(name.first().copied().unwrap_or_default()) % NAMES.len();
            *name = format!("laneway.{}", NAMES[at]).into_bytes();
        }
    }
    let read = |headers: &[(Vec<u8>, Option<Vec<u8>>)]| {
        Failed::read(headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())))
    };
    let Ok(Some((failed, own))) = read(&headers) else { return };
    // What was read is written, and read again as it was.
    headers.truncate(own);
    headers.extend(failed.headers().into_iter().map(|(name, value)| (name.into(), Some(value.into_bytes()))));
    assert_eq!(read(&headers), Ok(Some((failed, own))));
});
