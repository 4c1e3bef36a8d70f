//! What is done about stalls: handlers that are at a record for longer than is allowed. Lanes tell of theirs. A handler
//! that blocks its thread blocks its lane's task with it, which then tells nothing: that is seen from here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use laneway_core::LaneId;

use super::ClientThread;
use crate::error::ErrorKind;
use crate::event::Event;
use crate::failures::StallAction;
use crate::lane::shown_key;

/// The limit, what is done past it, and how often each lane had looked around when, and whether that was told.
#[derive(Debug)]
pub(super) struct Stalls {
    limit: Option<(Duration, StallAction)>,
    looks: HashMap<LaneId, (u64, Instant, bool)>,
}

impl Stalls {
    pub(super) fn new(limit: Option<(Duration, StallAction)>) -> Self {
        Self { limit, looks: HashMap::new() }
    }
}

impl ClientThread {
    pub(super) fn on_stalled(&mut self, lane: LaneId, offset: i64, key: Option<Vec<u8>>, age: Duration) {
        let Some((limit, action)) = self.stalls.limit else { return };
        let what = format!("{} at offset {offset} (key {})", lane.partition, shown_key(key.as_deref()));
        self.event(Event::Stalled { lane, offset, key, age });
        if action == StallAction::Leave {
            let message = format!(
                "{what}: the handler has been at it for {} s, and {} s are allowed; the group was left for it, and the \
                 record comes again",
                age.as_secs_f32(),
                limit.as_secs_f32()
            );
            self.world.trouble.get_or_insert((ErrorKind::Stalled, message));
        }
    }

    /// Looks for lanes whose task a handler blocks.
    pub(super) fn look_for_blocked_lanes(&mut self, now: Instant) {
        let Some((limit, _)) = self.stalls.limit else { return };
        let patience = limit.max(LONGEST_TURN);
        self.stalls.looks.retain(|lane, _| self.world.lanes.contains_key(lane));
        let mut blocked = Vec::new();
        for (lane, shared) in &self.world.lanes {
            // Only what runs in a lane's task can block it; one that streams has none.
            let Some(looks) = shared.looks() else { continue };
            let seen = self.stalls.looks.entry(lane.clone()).or_insert((looks, now, false));
            if seen.0 != looks || shared.in_flight() == 0 {
                *seen = (looks, now, false);
            } else if now.duration_since(seen.1) >= patience && !seen.2 {
                seen.2 = true;
                shared.is_blocked();
                blocked.push((lane.clone(), shared.watermark().offset, now.duration_since(seen.1)));
            }
        }
        for (lane, offset, age) in blocked {
            self.on_stalled(lane, offset, None, age);
        }
    }
}

/// A lane that is not blocked looks around more often than that, on a machine that is busy, too.
const LONGEST_TURN: Duration = Duration::from_secs(5);
