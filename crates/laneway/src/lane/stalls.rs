//! Handlers that take very long: told of while they do, and counted as stalled past a limit of the user's.

use std::future::Future;

use super::LaneMessage;
use super::attempt::{Answer, Job};
use super::task::{LOOK, Running};

impl<A, F> Running<'_, A, F>
where
    A: Fn(Job) -> F,
    F: Future<Output = Answer>,
{
    /// Looks at what the handler is at. A record on its way to another topic is not with the handler: that is told of
    /// where it is written.
    pub(super) fn look_at_long_calls(&mut self) {
        let (now, tell, lane) = (self.now, self.tell, &self.shared.id);
        let (mut stalled, mut long) = (0, 0);
        for call in self.calls.iter_mut().flatten().filter(|call| !call.unit.is_letter()) {
            let age = now.saturating_sub(call.since);
            long += usize::from(age >= LOOK);
            let is_long = age >= self.work.stall_after * 2u32.saturating_pow(call.told);
            let is_stalled = self.work.stall.is_some_and(|limit| age >= limit);
            if is_stalled {
                stalled += call.unit.len() as u64;
            }
            let Some(record) = call.unit.first() else { continue };
            if is_long {
                // Again each time that it has taken twice as long.
                call.told += 1;
                tell(LaneMessage::Told(format!(
                    "{} at offset {} (key {}): the handler has been at it for {} s",
                    lane.partition,
                    record.offset(),
                    shown_key(record.key()),
                    age.as_secs()
                )));
            }
            if is_stalled && !std::mem::replace(&mut call.is_stalled, true) {
                let key = record.key().map(<[u8]>::to_vec);
                tell(LaneMessage::Stalled { lane: lane.clone(), offset: record.offset(), key, age });
            }
        }
        self.long_calls = long;
        self.shared.looked_at_calls(stalled);
    }
}

/// A key as it is shown: cut, and with what is not printable escaped.
pub(crate) fn shown_key(key: Option<&[u8]>) -> String {
    match key {
        None => "none".into(),
        Some(key) => {
            let cut = &key[..key.len().min(SHOWN_KEY)];
            let more = if key.len() > SHOWN_KEY { "..." } else { "" };
            format!("\"{}\"{more}", cut.escape_ascii())
        }
    }
}

/// Bytes of a key that are shown.
const SHOWN_KEY: usize = 64;
