//! The director and its client subcommands as the built program: what an operator types, and what the `bosh` CLI sends.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod any_director;
mod api;
mod lab;
mod operator;
mod transcripts;
