//! The contract of `mysql-agent`: the words that travel between agents, errands and the broker, the document that every
//! program on a VM reads, a client, and the rules by which a leader is chosen. The agent itself is the binary of this package; nobody can import it.

pub mod api;
pub mod client;
pub mod config;
pub mod quorum;

pub use client::{Client, VoterClient};
