//! Faults of tasks, played for a director of simulated VMs.

use std::future::Future;
use std::sync::Arc;

use tokio::time::sleep;

use super::record::{Kind, State};
use super::{Order, Running};
use crate::error::{Code, Error, Result};
use crate::fault::{self, Fault, Faults, Point};
use crate::lock::Locks;

/// Where the faults of tasks come from.
pub(super) struct Source {
    pub(super) faults: Arc<Faults>,
    pub(super) locks: Locks,
}

/// What goes wrong with one task.
#[derive(Clone)]
pub(super) struct Disturbance {
    fault: Fault,
    locks: Locks,
    deployment: String,
}

impl Source {
    pub(super) fn of(&self, order: &Order) -> Option<Disturbance> {
        let deployment = order.deployment.clone().unwrap_or_default();
        let point = Point { act: act(order.kind), deployment: &deployment, instance: None };
        let fault = self.faults.take(point)?;
        Some(Disturbance { fault, locks: self.locks.clone(), deployment })
    }
}

impl Disturbance {
    /// Before a worker takes the task.
    pub(super) async fn queue(&self) {
        if self.fault.fault == fault::Kind::Queue {
            sleep(self.fault.latency()).await;
        }
    }

    /// How a task ends whose worker tells nobody.
    pub(super) fn silent_end(&self) -> Option<State> {
        match self.fault.fault {
            fault::Kind::WorkerDies => Some(State::Error),
            fault::Kind::TimeOut => Some(State::Timeout),
            _ => None,
        }
    }

    /// The work of a task, or what becomes of it.
    pub(super) async fn play<W, F>(self, task: Running, work: W) -> Result<String>
    where
        W: FnOnce(Running) -> F,
        F: Future<Output = Result<String>>,
    {
        let latency = self.fault.latency();
        match self.fault.fault {
            fault::Kind::WorkerDies | fault::Kind::TimeOut => {
                let lock = self.locks.acquire(&self.deployment, &task).await?;
                // Nobody waits for it: it is a lock that outlives its holder.
                tokio::spawn(async move {
                    sleep(latency).await;
                    drop(lock);
                });
                Err(Error::new(Code::Generic, "the worker died"))
            }
            fault::Kind::Linger => {
                let cancelled = task.cancelled.clone();
                let done = work(task).await;
                if cancelled.is_cancelled() {
                    sleep(latency).await;
                }
                done
            }
            fault::Kind::Queue => work(task).await,
            kind => {
                tokio::select! {
                    () = sleep(latency) => {}
                    () = task.cancelled.cancelled() => return Err(Error::cancelled(task.id)),
                }
                match kind {
                    fault::Kind::Fail => Err(self.failure()),
                    fault::Kind::LockConflict => Err(self.conflict()),
                    fault::Kind::Skip => Ok("skipped - no changes detected".to_owned()),
                    _ => work(task).await,
                }
            }
        }
    }

    fn failure(&self) -> Error {
        let code = self.fault.code.and_then(Code::of_task).unwrap_or(Code::Generic);
        Error::new(code, self.fault.message.clone().unwrap_or_else(|| "This fault was asked for".to_owned()))
    }

    fn conflict(&self) -> Error {
        let (deployment, uid) = (&self.deployment, uuid::Uuid::new_v4());
        let who = "Locking task id is 1, description: 'create deployment'";
        let message = format!("Failed to acquire lock for lock:deployment:{deployment} uid: {uid}. {who}");
        Error::new(Code::Generic, message)
    }
}

fn act(kind: Kind) -> &'static str {
    match kind {
        Kind::UpdateDeployment => "deploy",
        Kind::DeleteDeployment => "delete",
        Kind::RunErrand => "errand",
        Kind::Vms
        | Kind::StartInstance
        | Kind::StopInstance
        | Kind::RestartInstance
        | Kind::RecreateInstance
        | Kind::DeleteVm
        | Kind::DeleteOrphanDisks
        | Kind::OrphanDisk
        | Kind::AttachDisk
        | Kind::FetchLogs
        | Kind::CckScan
        | Kind::CckApply
        | Kind::CckScanAndFix
        | Kind::CleanupArtifacts => "other task",
    }
}
