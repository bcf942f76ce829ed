//! The last request of an operation, as the columns `sent`, `sent_errand` and `sent_after` have it.

use anyhow::{Context, bail};

use crate::bosh::TaskId;
use crate::lifecycle::{Act, Submission};

/// The columns `sent`, `sent_errand` and `sent_after`.
pub(super) type Columns = (Option<&'static str>, Option<i64>, i64);

pub(super) fn columns(submission: Option<Submission>) -> anyhow::Result<Columns> {
    let Some(Submission { act, after }) = submission else { return Ok((None, None, 0)) };
    let (name, errand) = match act {
        Act::Deploy => ("deploy", None),
        Act::Configure => ("run errand", None),
        Act::RunErrand(errand) => ("run errand", Some(i64::try_from(errand).context("record the place of an errand")?)),
        Act::DeleteDeployment => ("delete deployment", None),
    };
    Ok((Some(name), errand, i64::try_from(after.0).context("record the number of a task")?))
}

pub(super) fn submission(sent: Option<&str>, errand: Option<i64>, after: i64) -> anyhow::Result<Option<Submission>> {
    let Some(name) = sent else { return Ok(None) };
    let act = match (name, errand) {
        ("deploy", _) => Act::Deploy,
        ("run errand", None) => Act::Configure,
        ("run errand", Some(errand)) => Act::RunErrand(usize::try_from(errand).context("read the place of an errand")?),
        ("delete deployment", _) => Act::DeleteDeployment,
        (other, _) => bail!("read the act `{other}`"),
    };
    let after = TaskId(u64::try_from(after).context("read the number of a task")?);
    Ok(Some(Submission { act, after }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_read_as_it_was_recorded() {
        let acts = [Act::Deploy, Act::Configure, Act::RunErrand(0), Act::RunErrand(7), Act::DeleteDeployment];
        let submissions = acts.map(|act| Some(Submission { act, after: TaskId(3) }));
        for given in submissions.into_iter().chain([None]) {
            let (sent, errand, after) = columns(given).unwrap();
            assert_eq!(submission(sent, errand, after).unwrap(), given);
        }
        assert!(submission(Some("recreate"), None, 0).is_err());
    }
}
