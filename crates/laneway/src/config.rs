//! What a consumer is told: typed settings, and Kafka's client properties.

use std::fmt;
use std::str::FromStr;

/// The rebalance protocol of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// Classic: every rebalance takes every partition away (`range,roundrobin`).
    Eager,
    /// Classic: a rebalance takes away only what moves (`cooperative-sticky`).
    #[default]
    Cooperative,
    /// KIP-848: the broker assigns.
    Consumer,
}

/// Where a partition starts that has no committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OffsetReset {
    /// At the beginning of its log.
    Earliest,
    /// At the end of its log.
    #[default]
    Latest,
    /// Nowhere: the consumer stops with an error.
    Error,
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "eager" => Ok(Self::Eager),
            "cooperative" => Ok(Self::Cooperative),
            "consumer" => Ok(Self::Consumer),
            _ => Err(format!("\"{s}\" is not a rebalance protocol: eager, cooperative or consumer")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eager => "eager",
            Self::Cooperative => "cooperative",
            Self::Consumer => "consumer",
        })
    }
}

impl FromStr for OffsetReset {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "earliest" | "beginning" => Ok(Self::Earliest),
            "latest" | "end" => Ok(Self::Latest),
            "error" | "none" => Ok(Self::Error),
            _ if s.parse::<i64>().is_ok() => Err(format!(
                "\"{s}\" is an offset: earliest, latest or error is wanted; to start at an offset, move the \
                 group's committed one with seek"
            )),
            _ => Err(format!("\"{s}\" is not an offset reset: earliest, latest or error")),
        }
    }
}
