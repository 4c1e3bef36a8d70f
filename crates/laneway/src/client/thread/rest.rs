//! When the client thread looks around seldom: while nothing is under way, and for as long as nothing happens.

use std::time::{Duration, Instant};

use laneway_core::{Pace, Port};

use super::{ClientThread, TICK};

impl ClientThread {
    /// Nothing is under way, so that what happens next is told: by an event, by a handle, or by a lane that takes a record.
    pub(super) fn rests(&self) -> bool {
        let memory = &self.world.fixed.work.memory;
        let (taken, _) = self.world.taken;
        self.stop.is_none()
            && !self.exit_at_end
            && self.reached
            && self.join_at.is_none()
            && self.to_show.is_none()
            && self.refused_lanes.is_empty()
            && self.asked.is_answered()
            && !memory.is_tight()
            && self.world.member_is_known()
            && self.world.lanes.values().all(|lane| lane.is_idle())
            && self.world.paces.values().all(|pacing| pacing.pace() == Pace::Quiet)
            && self.member.is_at_rest(&self.world)
            && memory.rest(taken)
    }

    /// A look costs the more the more lanes there are. One that comes too late would be taken for a sleep.
    pub(super) fn resting_tick(&self) -> Duration {
        let lanes = u32::try_from(self.world.lanes.len()).unwrap_or(u32::MAX);
        let wanted = RESTING_TICK.max(RESTING_TICK_OF_LANE.saturating_mul(lanes)).min(LONGEST_RESTING_TICK);
        self.world.fixed.clients.session.map_or(wanted, |session| wanted.min(session / 4))
    }

    /// Looks around soon: something has happened.
    pub(super) fn rouse(&mut self) {
        self.next_tick = self.next_tick.min(Instant::now() + TICK);
    }
}

/// How often it looks around while nothing is under way: so often, or so long for each lane, and at least so often.
const RESTING_TICK: Duration = Duration::from_secs(1);
const RESTING_TICK_OF_LANE: Duration = Duration::from_millis(4);
const LONGEST_RESTING_TICK: Duration = Duration::from_secs(5);
