//! The contract of `mysql-agent`: the words that travel between agents, errands and the broker, the document that every
//! program on a VM reads, and a client. The agent itself is the binary of this package; nobody can import it.

pub mod api;
pub mod client;
pub mod config;

pub use client::Client;
