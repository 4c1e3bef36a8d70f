//! What a refused commit means. One table, here and in ARCHITECTURE.md.

/// Why a commit was not acknowledged, as far as it matters for what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitFailure {
    /// UNKNOWN_MEMBER_ID: the group does not know this member (any more).
    UnknownMember,
    /// ILLEGAL_GENERATION: the group is in another generation than the commit was sent in.
    IllegalGeneration,
    /// REBALANCE_IN_PROGRESS: the group waits for its leader's assignment.
    RebalanceInProgress,
    /// FENCED_INSTANCE_ID: another process has this static member's name.
    FencedInstance,
    /// STALE_MEMBER_EPOCH (KIP-848): the member's epoch moved on, and its client will hear of it.
    StaleEpoch,
    /// FENCED_MEMBER_EPOCH (KIP-848): the group went on without this member.
    FencedEpoch,
    /// UNKNOWN_TOPIC_OR_PART, TOPIC_AUTHORIZATION_FAILED: it is about a partition, and not about the member.
    /// Which one is not known where several were committed at once.
    Partition,
    /// OFFSET_METADATA_TOO_LARGE: what goes along with the offsets, and nothing about them. The next commit has less.
    TooLarge,
    /// Transport, time-outs, a coordinator that moves or loads: there is no coordinator, for a join as little as
    /// for a commit.
    NoCoordinator,
    /// Anything else that a later try may mend, as a refusal that somebody may lift (authorization).
    Other,
}

/// Where the member stood when the commit was *sent*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No rebalance event is unanswered. It may be steady, or joining: nothing says which.
    Free,
    /// In the hold that is still going on.
    Held,
    /// In a hold that has been answered or superseded since, or before the one going on.
    Past,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Send it again, soon.
    Retry,
    /// The member is joining: an event will come, perhaps an empty one. Until then it is sent again now
    /// and then, as nothing but a commit that succeeds says that the member is steady.
    AwaitEvent,
    /// The group went on without us: every lane is lost.
    ThrownOut,
    /// The client is beyond mending: the consumer ends.
    Fatal,
}

/// The table.
pub fn verdict(failure: CommitFailure, standing: Standing) -> Verdict {
    use CommitFailure as F;
    use Standing as S;
    match (failure, standing) {
        (F::FencedInstance, _) => Verdict::Fatal,
        (F::StaleEpoch | F::Partition | F::TooLarge | F::NoCoordinator | F::Other, _) => Verdict::Retry,
        (F::RebalanceInProgress, S::Held | S::Past) => Verdict::Retry,
        // No JoinGroup goes out during a hold, so the generation can't have changed by our own doing.
        (F::UnknownMember | F::IllegalGeneration | F::FencedEpoch, S::Held) => Verdict::ThrownOut,
        // It waited behind our own JoinGroup, and failed when that returned: the next one will do.
        (F::UnknownMember | F::IllegalGeneration | F::FencedEpoch, S::Past) => Verdict::Retry,
        (F::UnknownMember | F::IllegalGeneration | F::FencedEpoch | F::RebalanceInProgress, S::Free) => {
            Verdict::AwaitEvent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_a_commit_sent_in_this_hold_means_thrown_out() {
        let gone =
            [CommitFailure::UnknownMember, CommitFailure::IllegalGeneration, CommitFailure::FencedEpoch];
        for failure in gone {
            assert_eq!(verdict(failure, Standing::Held), Verdict::ThrownOut);
            assert_eq!(verdict(failure, Standing::Free), Verdict::AwaitEvent);
            assert_eq!(verdict(failure, Standing::Past), Verdict::Retry);
        }
    }

    #[test]
    fn a_fenced_instance_is_fatal_wherever_it_stands() {
        for standing in [Standing::Free, Standing::Held, Standing::Past] {
            assert_eq!(verdict(CommitFailure::FencedInstance, standing), Verdict::Fatal);
        }
    }
}
