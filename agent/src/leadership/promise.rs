//! What this leader has promised about its commits: that it acknowledges none which the follower has not received. The other
//! voters hear of it with each renewal, and a follower is promoted without the leader's word only where it was promised.
//!
//! The promise is made when the server waits for the follower and the follower has everything, and kept over a restart: a
//! server whose promise stands is opened waiting. To take it back, first the others must know, then the server may go on.

use std::time::Duration;

use agent::quorum::{Answer, Renewal};
use anyhow::Result;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::{Leadership, State};

const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What is kept of it on the disk, by epochs: a new leadership begins without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Promise {
    /// The epoch for which it was given; 0 for none.
    given: u64,
    /// The epoch in which a command took it back, so that it is not given again until another command does.
    degraded: u64,
    /// How often it was withdrawn, in all epochs.
    #[serde(default)]
    pub(super) withdrawals: u64,
    /// It is not told to the others, although it is kept still: the follower may lack something.
    #[serde(default)]
    is_withheld: bool,
}

impl Leadership {
    /// What the others are told.
    pub(crate) fn in_sync(&self) -> bool {
        self.is_in_sync(&self.state())
    }

    pub(super) fn is_in_sync(&self, state: &State) -> bool {
        self.is_promised(state) && !state.promise.is_withheld
    }

    /// The server must not acknowledge anything alone.
    pub(crate) fn must_wait(&self) -> bool {
        self.is_promised(&self.state())
    }

    /// A command has taken the promise back.
    pub(crate) fn is_degraded(&self) -> bool {
        let state = self.state();
        self.owned(&state).is_some_and(|epoch| epoch == state.promise.degraded)
    }

    /// From now on the server is not opened without waiting for the follower. The others are not told yet.
    pub(crate) fn promise(&self) -> Result<()> {
        self.change(|me, state, _| {
            if let Some(epoch) = me.owned(state).filter(|_| me.promises_sync) {
                state.promise = Promise { given: epoch, degraded: 0, is_withheld: true, ..state.promise };
            }
        })
    }

    /// Tell the others of no promise from now on. It is kept all the same.
    pub(crate) fn withhold_promise(&self) -> Result<()> {
        self.change(|_, state, _| {
            state.promise.withdrawals += 1;
            state.promise.is_withheld = true;
        })?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Tell the others of the promise: the follower has all that was acknowledged.
    pub(crate) fn tell_promise(&self) -> Result<()> {
        self.change(|_, state, _| state.promise.is_withheld = false)?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Give the promise up by command. The others know.
    pub(crate) fn degrade(&self) -> Result<()> {
        self.change(|me, state, _| {
            let degraded = me.owned(state).unwrap_or_default();
            state.promise = Promise { given: 0, degraded, ..state.promise };
        })
    }

    /// The promise may be given again.
    pub(crate) fn end_degradation(&self) -> Result<()> {
        self.change(|_, state, _| state.promise.degraded = 0)
    }

    /// Tell the others that there is no promise; says who may not know. The witness must: without its word, or this server's,
    /// nobody is promoted. The follower is told as well.
    pub(crate) async fn who_still_trusts(&self) -> Option<&'static str> {
        let renewal = self.renewal()?;
        let asked = self.others.iter().map(|other| other.client.renew(&renewal, ANSWER_LIMIT));
        let answers = join_all(asked).await;
        let trusts = self.others.iter().zip(answers).any(|(other, answer)| {
            let knows = answer.is_ok_and(|answer| knows(&answer, &renewal));
            other.is_witness && !knows
        });
        trusts.then_some("the witness (the broker)")
    }

    fn is_promised(&self, state: &State) -> bool {
        self.promises_sync && self.owned(state).is_some_and(|epoch| epoch == state.promise.given)
    }
}

fn knows(answer: &Answer, renewal: &Renewal) -> bool {
    let record = answer.record();
    let is_newest = record.epoch == renewal.epoch && record.withdrawals == renewal.withdrawals;
    matches!(answer, Answer::Granted(_)) && is_newest && !record.in_sync
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_is_withheld_is_so_after_a_restart() {
        let withheld = Promise { given: 3, degraded: 0, withdrawals: 2, is_withheld: true };

        let text = serde_json::to_string(&withheld).unwrap();

        assert_eq!(serde_json::from_str::<Promise>(&text).unwrap(), withheld);
        let earlier = r#"{"given": 3, "degraded": 0}"#;
        assert_eq!(serde_json::from_str::<Promise>(earlier).unwrap(), Promise { given: 3, ..Promise::default() });
    }
}
