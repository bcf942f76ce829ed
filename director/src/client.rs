//! The client subcommands: the part of the `bosh` CLI that an operator of this product needs, for machines without it.
//! Same names, same environment variables, same shape of output; they speak to any director.

mod api;
mod arguments;
mod change;
mod deploy;
mod errand;
mod event;
mod link;
mod list;
mod login;
mod problem;
mod table;
mod task;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

use api::Director;
use arguments::InstanceCommand;
pub(crate) use arguments::{Command, Connection};

/// Whether everything that was asked for came true. A failure that is an error is an `Err` instead.
type Outcome = anyhow::Result<Success>;

enum Success {
    /// Shown as `Succeeded`.
    Told,
    /// Only the output that a script wants.
    Silent,
}

/// Do what the command says, and say how it went.
pub(crate) async fn run(connection: Connection, command: Command) -> ExitCode {
    match dispatch(&connection, command).await {
        Ok(Success::Told) => print("\nSucceeded\n").map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Ok(Success::Silent) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error:#}\n\nExit code 1");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(connection: &Connection, command: Command) -> Outcome {
    let director = Director::new(connection)?;
    let all = connection.deployment.as_deref();
    let deployment = || connection.deployment();
    match command {
        Command::Env => list::environment(&director).await,
        Command::Deployments => list::deployments(&director).await,
        Command::Instances { ps, details } => list::instances(&director, all, ps, details).await,
        Command::Vms => list::vms(&director, all).await,
        Command::Errands => list::errands(&director, deployment()?).await,
        Command::Variables => list::variables(&director, deployment()?).await,
        Command::Manifest => list::manifest(&director, deployment()?).await,
        Command::Events => list::events(&director, all).await,
        Command::Locks => list::locks(&director).await,
        Command::Disks { orphaned: _ } => list::orphaned_disks(&director).await,
        Command::CloudConfig => list::cloud_config(&director).await,
        Command::Tasks { recent } => list::tasks(&director, all, recent).await,
        Command::Task { id, output } => task::show(&director, id, &output).await,
        Command::CancelTask { id } => task::cancel(&director, id).await,
        Command::Deploy(options) => deploy::deploy(&director, all, &options).await,
        Command::RunErrand { name, instances } => errand::run(&director, deployment()?, &name, &instances).await,
        Command::Stop(options) => change::instance(&director, deployment()?, InstanceCommand::Stop, &options).await,
        Command::Start(options) => change::instance(&director, deployment()?, InstanceCommand::Start, &options).await,
        Command::Restart(options) => {
            change::instance(&director, deployment()?, InstanceCommand::Restart, &options).await
        }
        Command::Recreate(options) => {
            change::instance(&director, deployment()?, InstanceCommand::Recreate, &options).await
        }
        Command::DeleteDeployment { force } => change::delete_deployment(&director, deployment()?, force).await,
        Command::CloudCheck(options) => problem::cloud_check(&director, deployment()?, &options).await,
        Command::Ignore { slug } => change::ignore(&director, deployment()?, &slug, true).await,
        Command::Unignore { slug } => change::ignore(&director, deployment()?, &slug, false).await,
        Command::AttachDisk { slug, cid } => change::attach_disk(&director, deployment()?, &slug, &cid).await,
        Command::DeleteVm { cid } => change::delete_vm(&director, &cid).await,
        Command::OrphanDisk { cid } => change::orphan_disk(&director, &cid).await,
        Command::DeleteDisk { cid } => change::delete_disk(&director, &cid).await,
        Command::CleanUp { all } => change::clean_up(&director, all).await,
        Command::UpdateCloudConfig { file } => change::cloud_config(&director, &file).await,
        Command::UpdateResurrection { switch } => change::resurrection(&director, switch).await,
        Command::LinkAddress => link::address(&director, deployment()?).await,
    }
}

/// Write to standard output, and show it now: people watch, and pipes may close.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write the output")
}
