//! Waiting for a condition, with a deadline and a reason. Nothing in this package sleeps for a fixed time.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Ask `condition` again and again until it gives a value. An error is a "not yet" too; the last one is told when the
/// time is up.
///
/// # Errors
/// `limit` passed without a value.
pub async fn eventually<T>(
    what: impl Display,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let outcome = condition().await;
        match outcome {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if started.elapsed() < limit => {}
            Err(_) if started.elapsed() < limit => {}
            Ok(None) => bail!("gave up after {} s waiting until {what}", limit.as_secs()),
            Err(cause) => {
                return Err(cause.context(format!("gave up after {} s waiting until {what}", limit.as_secs())));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same for a condition that is asked without awaiting.
///
/// # Errors
/// `limit` passed and the condition is still false.
pub async fn until(what: impl Display, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    eventually(what, limit, async || Ok(condition().then_some(()))).await
}
