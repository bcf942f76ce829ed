//! The busy flag: one thing at a time changes this server's part in its pair. Who may be writable does not hang on it; that is
//! agreed by the voters (`leadership.rs`), which answer whatever the flag says.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use agent::api::{Activity, TURN_LIMIT};
use tokio::sync::Notify;

/// The flag.
#[derive(Clone, Default)]
pub(crate) struct Busy(Arc<Flag>);

#[derive(Default)]
struct Flag {
    holder: Mutex<Option<Activity>>,
    lowered: Notify,
}

/// Keeps the flag up.
pub(crate) struct Raised(Arc<Flag>);

impl Busy {
    /// Raise the flag, or say who has it.
    pub(crate) fn raise(&self, activity: Activity) -> Result<Raised, Activity> {
        let mut holder = self.0.holder.lock().unwrap_or_else(PoisonError::into_inner);
        match *holder {
            Some(other) => Err(other),
            None => {
                *holder = Some(activity);
                Ok(Raised(self.0.clone()))
            }
        }
    }

    /// Raise the flag for somebody who asked, or say who has it. A recovery has it again and again, for moments.
    pub(crate) async fn raise_after_recovery(&self, activity: Activity) -> Result<Raised, Activity> {
        let raised = tokio::time::timeout(TURN_LIMIT, async {
            loop {
                let mut lowered = pin!(self.0.lowered.notified());
                lowered.as_mut().enable();
                match self.raise(activity) {
                    Err(Activity::Recovery) => lowered.await,
                    raised => return raised,
                }
            }
        });
        raised.await.unwrap_or(Err(Activity::Recovery))
    }

    /// Raise the flag as soon as it is down.
    pub(crate) async fn raise_when_free(&self, activity: Activity) -> Raised {
        loop {
            let mut lowered = pin!(self.0.lowered.notified());
            // Waiting from here on: a flag that is lowered between the next two lines is not missed.
            lowered.as_mut().enable();
            if let Ok(raised) = self.raise(activity) {
                return raised;
            }
            lowered.await;
        }
    }

    pub(crate) fn holder(&self) -> Option<Activity> {
        *self.0.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        *self.0.holder.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Everyone who waits looks again; who does not get it waits on.
        self.0.lowered.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_one_holds_the_flag_and_the_next_one_learns_who() {
        let busy = Busy::default();
        let raised = busy.raise(Activity::Recovery).unwrap();

        assert_eq!(busy.raise(Activity::PeerCommand).err(), Some(Activity::Recovery));
        assert_eq!(busy.holder(), Some(Activity::Recovery));

        drop(raised);
        let _raised = busy.raise_when_free(Activity::PeerCommand).await;
        assert_eq!(busy.holder(), Some(Activity::PeerCommand));
    }
}
