//! The simulated CPI, as authors of broker tests use it: a whole life of service instances without a MySQL server, and
//! every fault that directors are known for (`faults.txt`). Whatever goes wrong, the operation ends well or with a sentence,
//! and nothing is done twice for one step.

mod away;
mod binding;
mod creation;
mod deadline;
mod deletion;
mod ending;
mod errands;
mod faults;
mod life;
mod operators;
mod update;

use std::time::Duration;

use anyhow::Result;
use tests::Stack;
use tests::stack::Wiring;
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
const LIMIT: Duration = Duration::from_secs(60);

/// The stack of the tests that disturb no instance but their own.
async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Simulated)).await
}
