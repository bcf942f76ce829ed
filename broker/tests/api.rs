//! The built program, spoken to over raw TCP in raw HTTP and raw JSON: nothing here knows our types.

#![cfg(test)]

#[path = "api/catalog.rs"]
mod catalog;
#[path = "api/conformance.rs"]
mod conformance;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/members.rs"]
mod members;
#[path = "api/program.rs"]
mod program;
#[path = "api/reload.rs"]
mod reload;
#[path = "api/requests.rs"]
mod requests;
#[path = "api/rows.rs"]
mod rows;
#[path = "api/transport.rs"]
mod transport;
