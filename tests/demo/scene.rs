//! How the demo speaks: numbered steps, commands as one would type them with the output that they really gave, and a
//! sign of life whenever something takes longer than two seconds.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::director::Output;
use tests::{Broker, Director};
use tokio::process::Command;
use tokio::time::MissedTickBehavior;

/// Silence that is bearable.
const PATIENCE: Duration = Duration::from_secs(2);

/// The demo's voice.
pub(crate) struct Scene {
    started: Instant,
    step: u32,
}

impl Default for Scene {
    fn default() -> Scene {
        Scene { started: Instant::now(), step: 0 }
    }
}

impl Scene {
    /// Announce the next step.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}. {title}   [{:.1} s]", self.step, self.seconds());
    }

    /// Remark on what is seen.
    pub(crate) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// Since the beginning.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Await something with a sign of life every two seconds.
    pub(crate) async fn patiently<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PATIENCE, PATIENCE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome.with_context(|| what.to_owned()),
                _ = ticks.tick() => println!("   ... {what}, {} s", started.elapsed().as_secs()),
            }
        }
    }

    /// Run a client subcommand and show it with its output; it must succeed.
    pub(crate) async fn director(&self, director: &Director, arguments: &[&str]) -> Result<String> {
        self.attempt(director, arguments).await?.succeeded()
    }

    /// The same for one that may be refused.
    pub(crate) async fn attempt(&self, director: &Director, arguments: &[&str]) -> Result<Output> {
        println!("   $ tandem-director {}", arguments.join(" "));
        let is_word = |word: &&&str| !word.starts_with('-') && !word.starts_with("service-instance_");
        let words: Vec<&str> = arguments.iter().filter(is_word).copied().collect();
        let output = self.patiently(&format!("{} goes on", words.join(" ")), director.cli(arguments)).await?;
        print_indented(&output.stdout);
        print_indented(&output.stderr);
        Ok(output)
    }

    /// Send a request to the broker with curl, show it with its output, and return the status and the body.
    pub(crate) async fn curl(&self, curl: &Curl, arguments: &[&str], path: &str) -> Result<(u16, serde_json::Value)> {
        let shown: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        println!("   $ curl -K curl.conf {} \"$BROKER_URL{path}\"", shown.join(" "));
        let work = async {
            let command = Command::new("curl")
                .arg("-K")
                .arg(&curl.config)
                .args(arguments)
                .arg(format!("{}{path}", curl.url))
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            command.await.context("run curl")
        };
        let output = self.patiently("the broker's answer", work).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "curl failed: {}", String::from_utf8_lossy(&output.stderr));
        let (body, status) = text.rsplit_once("\nHTTP ").context("read curl's output")?;
        print_indented(&format!("{}\nHTTP {status}", without_passwords(body)));
        let status = status.trim().parse().context("read the HTTP status")?;
        Ok((status, serde_json::from_str(body).unwrap_or_default()))
    }
}

/// curl with the broker's credentials, given to it in a file: a password in an argument is seen by everybody.
pub(crate) struct Curl {
    url: String,
    config: PathBuf,
}

impl Curl {
    /// Write the file.
    pub(crate) fn new(directory: &Path, broker: &Broker) -> Result<Curl> {
        let config = directory.join("curl.conf");
        let text = format!(
            "silent\nshow-error\nuser = \"{}:{}\"\nheader = \"X-Broker-API-Version: 2.17\"\n\
             header = \"Content-Type: application/json\"\nwrite-out = \"\\nHTTP %{{http_code}}\\n\"\n",
            broker.username, broker.password
        );
        tests::director::write_secret(&config, &text)?;
        Ok(Curl { url: broker.url.clone(), config })
    }
}

fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=".contains(c));
    if plain { word.to_owned() } else { format!("'{word}'") }
}

/// A transcript may be pasted anywhere, so a binding's password is cut out of what is shown.
fn without_passwords(body: &str) -> String {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(body) else { return body.to_owned() };
    match value["credentials"]["password"].as_str() {
        Some(password) => body.replace(password, "********"),
        None => body.to_owned(),
    }
}

fn is_repetition(line: &str) -> bool {
    let is_frame = line.starts_with("Using ") || line.starts_with("Deployment '");
    let words: Vec<&str> = line.split_whitespace().collect();
    is_frame || matches!(words[..], ["Task", _] | ["Task", _, "Started" | "Finished" | "Duration" | "done", ..])
}

fn print_indented(text: &str) {
    for line in text.lines().filter(|line| !line.trim().is_empty() && !is_repetition(line)) {
        println!("     {line}");
    }
}
