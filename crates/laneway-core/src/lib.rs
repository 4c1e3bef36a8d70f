//! What Laneway decides: which offsets may be committed, and what is done about every rebalance. No I/O,
//! no clock, no threads: time is an argument, and what must be done is asked of a port.
#![forbid(unsafe_code)]

mod commit;
mod failed;
pub mod map;
mod member;
mod pace;
mod port;
mod schedule;
#[cfg(feature = "sim")]
pub mod sim;
mod start;
mod tracker;
mod turns;
mod types;

pub use commit::{CommitFailure, Standing, Verdict, verdict};
pub use failed::{Failed, cut_error};
pub use member::{CommitResult, Input, LaneStage, Member, Protocol, Settings, Then, Totals};
pub use pace::{Pace, Pacing};
pub use port::{Answer, Port, Report, Want};
pub use schedule::{BatchLimits, Place, Schedule};
pub use start::{Found, From, Log, Reset, first_start, start_again};
pub use tracker::{Ticket, Tracker};
pub use turns::{Deed, Look, Turns};
pub use types::{Epoch, LaneId, Position, TopicPartition};
