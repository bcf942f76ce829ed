//! What the jobs of a VM do before they are stopped.

use super::turn::Subject;
use crate::cpi::{ErrandOutput, NextState};

/// Ask the jobs to prepare for being stopped. They are stopped whatever becomes of that.
pub(super) async fn pre_stop(subject: Subject<'_>, cid: &str, next: NextState) {
    let cancelled = subject.task.cancelled.clone();
    match subject.director.cpi.pre_stop(cid, next, cancelled).await {
        Ok(outputs) => outputs.iter().for_each(|(job, output)| {
            let ErrandOutput { exit_code, stdout, stderr } = output;
            subject.task.debug(&format!("pre-stop of {job} ended with {exit_code}\n{stdout}{stderr}"));
        }),
        Err(error) => subject.task.debug(&format!("pre-stop on {cid}: {error:#}")),
    }
}
