//! A membership without a group: the assignment is fixed, and nothing is committed. To the member it looks like a group
//! of one that is always steady, and whose answers come at once.

use laneway_core::{Input, LaneId, Position};

use crate::assign::Assigned;

/// Stands for the group of a consumer that has none.
pub(crate) struct ByHand {
    pub(super) assigned: Assigned,
    /// What the member is to hear.
    told: Vec<Input>,
}

impl ByHand {
    pub(super) fn new(assigned: Assigned) -> Self {
        Self { assigned, told: Vec::new() }
    }

    pub(super) fn join(&mut self) {
        self.told.push(Input::Assign(self.assigned.keys().cloned().collect()));
    }

    /// Nobody asks for what is committed but the member: for a lane to be opened, or to be over.
    pub(super) fn commit(&mut self, token: u64, offsets: &[(LaneId, Position)]) {
        let taken = offsets.iter().map(|(lane, _)| (lane.partition.clone(), None)).collect();
        self.told.push(Input::Committed { token, result: Ok(taken) });
    }

    pub(super) fn close(&mut self) {
        self.told.push(Input::ClientClosed);
    }

    pub(super) fn has_more(&self) -> bool {
        !self.told.is_empty()
    }

    /// What the member is to hear next. Not told at once: whoever asked is still at it.
    pub(super) fn take(&mut self) -> Vec<Input> {
        std::mem::take(&mut self.told)
    }
}
