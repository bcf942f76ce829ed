//! The agent as its callers see it: the built program with a real server, in a directory and on an address of its own.
#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod authority;
mod automatic;
mod crashes;
mod demotion;
mod failover;
mod family;
mod fencing;
mod guard;
mod hung;
mod monitoring;
mod one_command;
mod pair;
mod parameters;
mod preparing;
mod receipts;
mod refusals;
mod rejoin;
mod seeding;
mod session;
mod single_node;
mod sync;
mod users;
mod vm;
mod witness;
