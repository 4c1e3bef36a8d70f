//! All of this crate's `unsafe`: librdkafka's calls, and what the standard library lacks of the operating
//! system. Each file gives the rest of the crate safe types.

mod admin;
mod client;
mod consumer;
mod list;
mod mock;
mod os;
mod producer;

pub(crate) use admin::{AdminClient, asking};
pub(crate) use client::Topic;
pub(crate) use consumer::ConsumerClient;
pub(crate) use list::List;
pub(crate) use mock::Mock;
pub(crate) use os::{announce_pid, ended, lock_file, monotonic_ns, signal};
pub(crate) use producer::{ProducerClient, Refused};
