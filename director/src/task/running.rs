//! What the work of a task sees of it.

use std::ops::Deref;

use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::record::Record;
use crate::error::{Error, Result};
use crate::event::Actor;

/// A task's number, its outputs, who asked for it, and whether somebody cancelled it.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) description: String,
    pub(crate) user: String,
    pub(crate) cancelled: CancellationToken,
    log: Log,
}

impl Deref for Running {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl Running {
    pub(super) fn new(record: &Record, cancelled: CancellationToken, log: Log) -> Self {
        Self { id: record.id, description: record.description.clone(), user: record.user.clone(), cancelled, log }
    }

    /// To be asked between two steps.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancelled.is_cancelled() { Err(Error::cancelled(self.id)) } else { Ok(()) }
    }

    /// Who the director's events say it was.
    pub(crate) fn actor(&self) -> Actor {
        Actor { user: self.user.clone(), task: Some(self.id) }
    }
}
