//! The main job, shown: from `create-service` to a failed-over and healed leader/follower pair on real MySQL, while a
//! client writes all the time. Every command is run as it is printed; the exit code tells whether all of it held.

mod failover;
mod instance;
mod proof;
mod scene;

use std::process::ExitCode;

use anyhow::{Context, Result};
use tests::Stack;
use tests::stack::Wiring;

use instance::Instance;
use scene::Scene;

fn main() -> ExitCode {
    let outcome = tokio::runtime::Runtime::new().context("make a runtime").and_then(|runtime| runtime.block_on(demo()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("\nThe demo failed: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let mut scene = Scene::default();
    println!(
        "Commands are run as they are printed. Of their output, blank lines and the lines that repeat the director's"
    );
    println!("address, the deployment and a task's times are left out, and a binding's password is masked.");

    scene.step("Start a director and let it deploy the broker, as a deployment of its own in the third AZ");
    let stack = scene.patiently("starting the stack", Stack::start(Wiring::Direct)).await?;
    scene.say(&format!("director {}, broker {}", stack.director.url, stack.broker.url));
    scene.director(&stack.director, &["deployments"]).await?;

    let instance = Instance::create(&mut scene, &stack).await?;
    let binding = instance.bind(&mut scene, &stack).await?;
    let pair = instance.inspect(&mut scene, &stack).await?;
    let pair = failover::planned(&mut scene, &stack, &instance, &binding, pair).await?;
    let crash = failover::after_a_crash(&mut scene, &stack, &instance, &binding, &pair).await?;

    let credentials = binding.credentials.clone();
    let record = scene.patiently("the writer stops", binding.writer.finish()).await?;
    proof::rows(&mut scene, &stack, &instance, &credentials, &record, &crash).await?;

    let traces = proof::traces(&stack, &instance).await?;
    instance.unbind(&mut scene, &stack, &credentials, &binding.id).await?;
    instance.delete(&mut scene, &stack).await?;
    proof::nothing_is_left(&mut scene, stack, &traces).await?;
    println!("\nDone in {:.0} s. Everything held.", scene.seconds());
    Ok(())
}
