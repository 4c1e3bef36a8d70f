//! The client thread: one OS thread that owns membership, the fetcher and all native handles. It never
//! waits for a lane, nor for the broker.

mod asker;
mod asks;
mod board;
mod by_hand;
mod mailbox;
mod maps;
mod membership;
mod reaper;
mod starts;
mod thread;
mod topic_ids;
mod topics;
mod world;

pub(crate) use asks::{Answer, Ask, Offsets};
pub(crate) use board::Board;
pub(crate) use mailbox::{Mailbox, Message};
pub(crate) use reaper::Reaper;
pub(crate) use thread::{OTHERS, Setup, advice, is_alert, is_refusal, is_transport, reason_of, spawn};
pub(crate) use topic_ids::is_mark;
pub(crate) use topics::Patterns;
pub(crate) use world::Spawn;
