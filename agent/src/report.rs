//! What a command says while it runs: events for the one who asked, and lines in the log. Nobody needs to listen: a command
//! goes on when its client has gone away.

use agent::api::Event;
use tokio::sync::mpsc;

/// An error with its causes, as one sentence. Some libraries repeat the cause in their own text; here it is said once.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// More lines than this wait for a slow client; the next ones only go to the log.
const WAITING: usize = 256;

/// Where a command reports to.
#[derive(Clone)]
pub(crate) struct Report(mpsc::Sender<Event>);

impl Report {
    /// A report and the events that it gives.
    pub(crate) fn new() -> (Report, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Report(sender), receiver)
    }

    /// A report of something that nobody asked for: only the log has it.
    pub(crate) fn to_nobody() -> Report {
        Report::new().0
    }

    /// Progress.
    pub(crate) fn say(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::info!("{text}");
        // The last place is for the outcome.
        if self.0.capacity() > 1 {
            let _ = self.0.try_send(Event::Message(text));
        }
    }

    /// The outcome.
    pub(crate) fn end(&self, outcome: Event) {
        let _ = self.0.try_send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("1044 denied").context("from database: 1044 denied").context("make the user");

        assert_eq!(sentence(&error), "make the user: from database: 1044 denied");
    }
}
