//! What the system tests, the demo and the benchmark share: a [`Stack`] of the built programs on addresses of its own,
//! clients that speak raw JSON and real SQL to it, a writer that remembers every acknowledged row, and a proxy that can
//! stop time between the broker and the director.

pub mod authority;
pub mod broker;
pub mod clients;
pub mod director;
pub mod history;
pub mod judge;
pub mod mysql;
pub mod own_broker;
pub mod processes;
pub mod proxy;
pub mod service;
pub mod simulation;
pub mod stack;
pub mod state_database;
pub mod steps;
pub mod wait;
pub mod writer;

pub use authority::Authority;
pub use broker::Broker;
pub use director::Director;
pub use own_broker::OwnBroker;
pub use service::Service;
pub use stack::Stack;
pub use state_database::StateDatabase;
pub use wait::eventually;
pub use writer::Writer;
