//! Two failovers by the operator's runbook: a planned one, and one after the leader's VM has died.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{Stack, processes};

use crate::instance::{Binding, Instance, Pair};
use crate::scene::Scene;

/// Time for the writer to find the new leader.
const WRITER_LIMIT: Duration = Duration::from_secs(40);

/// What the comparison at the end must know about the crash.
pub(crate) struct Crash {
    /// Rows acknowledged up to here were acknowledged by the leader that was killed, or before it led.
    pub(crate) killed_at: Instant,
    /// When the killed leader began to lead.
    pub(crate) led_from: Instant,
}

/// Hand-over while everything is reachable: no acknowledged row may be lost.
pub(crate) async fn planned(
    scene: &mut Scene,
    stack: &Stack,
    instance: &Instance,
    binding: &Binding,
    before: Pair,
) -> Result<Pair> {
    scene.step("Planned failover by the runbook: make-read-only, stop, make-leader, start, configure-leader-follower");
    let (old, new) = (before.leader.slug(), before.follower.slug());
    let started = Instant::now();
    operate(scene, stack, instance, &["run-errand", "make-read-only", &on(&old)]).await?;
    operate(scene, stack, instance, &["stop", "--no-converge", &old]).await?;
    operate(scene, stack, instance, &["run-errand", "make-leader", &on(&new)]).await?;
    scene.patiently("the writer goes on", binding.writer.goes_on(100, WRITER_LIMIT)).await?;
    let gap = binding.writer.record().longest_gap_since(started);
    scene.say(&format!(
        "the writer goes on through the same address: {} rows, longest pause {:.2} s (one operator, three commands)",
        binding.writer.count(),
        gap.as_secs_f64()
    ));
    operate(scene, stack, instance, &["start", "--no-converge", &old]).await?;
    operate(scene, stack, instance, &["run-errand", "configure-leader-follower", &on(&old)]).await?;
    let after = instance.show(scene, stack).await?;
    ensure!(after.leader.id == before.follower.id, "the former follower must lead");
    Ok(after)
}

/// The leader's VM dies at once, and everything that the follower had received lives on.
pub(crate) async fn after_a_crash(
    scene: &mut Scene,
    stack: &Stack,
    instance: &Instance,
    binding: &Binding,
    pair: &Pair,
) -> Result<Crash> {
    scene.step("The leader's VM is killed with kill -9, with the resurrector switched off as the runbook says");
    scene.director(&stack.director, &["update-resurrection", "off"]).await?;
    operate(scene, stack, instance, &["instances", "--details"]).await?;
    let led_from = Instant::now();
    binding.writer.goes_on(50, WRITER_LIMIT).await?;
    let killed_at = kill(scene, stack, pair)?;

    scene.step("Promote the follower; then bring the dead VM back with its disk and make it the follower");
    let (old, new) = (pair.leader.slug(), pair.follower.slug());
    operate(scene, stack, instance, &["run-errand", "make-leader", &on(&new)]).await?;
    scene.patiently("the writer goes on", binding.writer.goes_on(100, WRITER_LIMIT)).await?;
    let gap = binding.writer.record().longest_gap_since(killed_at);
    scene.say(&format!(
        "the writer goes on: {} rows, longest pause {:.2} s",
        binding.writer.count(),
        gap.as_secs_f64()
    ));
    operate(scene, stack, instance, &["recreate", "--no-converge", "--fix", &old]).await?;
    let configure = ["-d", &instance.deployment, "run-errand", "configure-leader-follower", &on(&old)];
    let configured = scene.attempt(&stack.director, &configure).await?;
    if configured.stderr.contains("diverged") || configured.stdout.contains("diverged") {
        give_up_disk(scene, stack, instance, pair).await?;
        scene.director(&stack.director, &configure).await?;
    } else {
        configured.succeeded()?;
    }
    scene.director(&stack.director, &["update-resurrection", "on"]).await?;
    let after = instance.show(scene, stack).await?;
    ensure!(after.leader.id == pair.follower.id, "the promoted follower must lead");
    Ok(Crash { killed_at, led_from })
}

/// The killed leader had committed what its follower never received. The refusal leaves the choice to the operator, who
/// keeps that disk as an orphan; the instance is given a new one and the leader's data.
async fn give_up_disk(scene: &Scene, stack: &Stack, instance: &Instance, pair: &Pair) -> Result<()> {
    scene.say("The killed leader has rows that were never sent: keep its disk as an orphan, seed a new one");
    let old = pair.leader.slug();
    let vm = stack.director.full_instances(&instance.deployment).await?;
    let vm = vm.iter().find(|vm| vm["id"] == pair.leader.id.as_str()).context("find the old leader")?;
    let disk = vm["disk_cid"].as_str().context("find the old leader's disk")?;
    operate(scene, stack, instance, &["stop", "--hard", "--no-converge", &old]).await?;
    scene.director(&stack.director, &["orphan-disk", disk]).await?;
    operate(scene, stack, instance, &["start", "--no-converge", &old]).await?;
    Ok(())
}

/// Every process of the VM at once, its supervisor first: that is what a lost machine looks like.
fn kill(scene: &Scene, stack: &Stack, pair: &Pair) -> Result<Instant> {
    let cid = pair.leader.cid.as_deref().context("the leader must have a VM")?;
    let mut victims = processes::of_vm(stack.directory(), cid);
    victims.sort_by_key(|process| process.program != "tandem-director");
    ensure!(victims.iter().any(|process| process.program == "mariadbd"), "a server must run on {cid}: {victims:?}");
    let pids: Vec<String> = victims.iter().map(|process| process.pid.to_string()).collect();
    scene.say(&format!("$ kill -9 {}", pids.join(" ")));
    let killed_at = Instant::now();
    victims.iter().for_each(|process| processes::kill(process.pid));
    for process in &victims {
        scene.say(&format!("  {} {} of {cid} is dead", process.program, process.pid));
    }
    Ok(killed_at)
}

async fn operate(scene: &Scene, stack: &Stack, instance: &Instance, arguments: &[&str]) -> Result<String> {
    scene.director(&stack.director, &[&["-d", instance.deployment.as_str()], arguments].concat()).await
}

fn on(slug: &str) -> String {
    format!("--instance={slug}")
}
