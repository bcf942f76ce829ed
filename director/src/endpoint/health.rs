//! Asking the instances, round by round: at once and often while clients wait, now and then while connections are open,
//! seldom otherwise.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::verdict::{Answer, Verdict, judge, keep};

/// The pause between rounds while clients wait.
pub(super) const HELD_PAUSE: Duration = Duration::from_millis(10);
const OPEN_PAUSE: Duration = Duration::from_millis(250);
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// The time for an answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Once one instance is healthy the others get only this much longer: a client must not wait a second for the hanging
/// agent of a follower, yet a second leader that answers at all is heard.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(100);
/// An answer is a short sentence. A longer one is not read, and the connection that it came on not used again.
const BODY_LIMIT: u64 = 4096;

/// How an instance is asked whether it is the one: `https://INSTANCE:port/path` answers 200.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// What the last round found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    pub(super) round: u64,
    /// Where new connections go.
    pub(super) leader: Option<Ipv4Addr>,
    /// Whose established connections stay.
    pub(super) kept: Option<Ipv4Addr>,
}

/// Who wants to know.
#[derive(Default)]
pub(super) struct Demand {
    /// The number of the newest round that was begun.
    begun: AtomicU64,
    held: AtomicUsize,
    open: AtomicUsize,
    wake: Notify,
}

impl Demand {
    /// A client waits from now on, for a round after the returned one.
    pub(super) fn hold(&self) -> (u64, Counted<'_>) {
        let held = Counted::new(&self.held);
        let after = self.begun.load(Ordering::SeqCst);
        self.wake.notify_one();
        (after, held)
    }

    /// A connection is open from now on.
    pub(super) fn open(&self) -> Counted<'_> {
        Counted::new(&self.open)
    }

    fn pause(&self) -> Duration {
        if self.held.load(Ordering::SeqCst) > 0 {
            HELD_PAUSE
        } else if self.open.load(Ordering::SeqCst) > 0 {
            OPEN_PAUSE
        } else {
            IDLE_PAUSE
        }
    }
}

/// One more in a count, as long as it lives.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The one who asks.
pub(super) struct Prober {
    name: String,
    health: Health,
    http: reqwest::Client,
    targets: watch::Receiver<Vec<Ipv4Addr>>,
    demand: Arc<Demand>,
    view: watch::Sender<View>,
    last_verdict: Verdict,
    last_heard: Instant,
}

impl Prober {
    pub(super) fn new(
        name: String,
        health: Health,
        targets: watch::Receiver<Vec<Ipv4Addr>>,
        demand: Arc<Demand>,
    ) -> anyhow::Result<(Self, watch::Receiver<View>)> {
        let http = reqwest::Client::builder()
            // Whoever has an address of this machine was put there by this director; and the question is public. The
            // certificate's authority is the deployment's own business, the director does not know it.
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(10 * IDLE_PAUSE)
            .tcp_nodelay(true)
            .timeout(ANSWER_TIMEOUT)
            .build()
            .context("prepare to ask for the health of instances")?;
        let (view, seen) = watch::channel(View::default());
        let (last_verdict, last_heard) = (Verdict::Nobody, Instant::now());
        Ok((Self { name, health, http, targets, demand, view, last_verdict, last_heard }, seen))
    }

    pub(super) async fn run(mut self) {
        loop {
            let round = self.demand.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let targets = self.targets.borrow_and_update().clone();
            let answers = self.ask_all(&targets).await;
            self.conclude(round, &answers);
            self.rest().await;
        }
    }

    /// Until the next round is due: a client comes, the instances change, or the time is up.
    async fn rest(&mut self) {
        let changed = async {
            if self.targets.changed().await.is_err() {
                // Whoever set the targets is gone, and the last ones stay.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(self.demand.pause()) => {}
            () = self.demand.wake.notified() => {}
            () = changed => {}
        }
    }

    fn conclude(&mut self, round: u64, answers: &[(Ipv4Addr, Answer)]) {
        let verdict = judge(answers);
        if verdict != self.last_verdict {
            match verdict {
                Verdict::One(leader) => tracing::info!(address = self.name, %leader, "the client address leads there"),
                Verdict::Nobody => tracing::info!(address = self.name, "no instance is healthy, clients wait"),
                Verdict::Several => tracing::error!(
                    address = self.name,
                    "more than one instance says that it is the leader, so clients are sent to none: {answers:?}"
                ),
            }
        }
        self.last_verdict = verdict;
        let kept = self.view.borrow().kept;
        let now = Instant::now();
        if kept.is_some_and(|kept| !answers.contains(&(kept, Answer::Silent))) {
            self.last_heard = now;
        }
        let kept = keep(verdict, answers, kept, now - self.last_heard);
        let leader = match verdict {
            Verdict::One(leader) => Some(leader),
            Verdict::Nobody | Verdict::Several => None,
        };
        if leader.is_some() {
            self.last_heard = now;
        }
        self.view.send_replace(View { round, leader, kept });
    }

    async fn ask_all(&self, targets: &[Ipv4Addr]) -> Vec<(Ipv4Addr, Answer)> {
        let mut answers: Vec<_> = targets.iter().map(|target| (*target, Answer::Silent)).collect();
        let mut asked = JoinSet::new();
        for (index, target) in targets.iter().enumerate() {
            let request = self.http.get(format!("https://{target}:{}{}", self.health.port, self.health.path));
            asked.spawn(async move { (index, ask(request).await) });
        }
        let mut deadline = Instant::now() + ANSWER_TIMEOUT;
        while let Ok(Some(answered)) = tokio::time::timeout_at(deadline, asked.join_next()).await {
            // A question that panicked was not answered.
            let Ok((index, answer)) = answered else { continue };
            answers[index].1 = answer;
            if answer == Answer::Healthy {
                deadline = deadline.min(Instant::now() + OTHERS_TIMEOUT);
            }
        }
        answers
    }
}

async fn ask(request: reqwest::RequestBuilder) -> Answer {
    let Ok(response) = request.send().await else { return Answer::Silent };
    let answer = if response.status() == reqwest::StatusCode::OK { Answer::Healthy } else { Answer::Unhealthy };
    if response.content_length().is_some_and(|length| length <= BODY_LIMIT) {
        // Only so that the connection can be used again.
        let _ = response.bytes().await;
    }
    answer
}
