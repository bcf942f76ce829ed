//! `stack up` leaves a director and a broker running in the background and says how to talk to them; `stack down`
//! removes them. `stack guard` is what a test's stack is removed by (`tests::stack::guard`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use tests::processes::{self, Process};
use tests::stack::{self, Wiring, guard};
use tests::{Stack, director};

/// A director and a broker on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the stack and leave it running.
    Up {
        /// The directory that will hold everything.
        #[arg(long, default_value = ".run")]
        dir: PathBuf,
        /// What a VM with a MySQL server is made of.
        #[arg(long, value_enum, default_value_t)]
        cpi: Cpi,
    },
    /// Remove a stack that was left running, with everything that it made.
    Down {
        /// The directory given to `up`.
        #[arg(long, default_value = ".run")]
        dir: PathBuf,
    },
    /// Hold a block of addresses until standard input closes, then remove the stack in the directory.
    #[command(hide = true)]
    Guard {
        /// The stack's directory.
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Cpi {
    /// Of processes: a real server.
    #[default]
    Process,
    /// Of nothing: a fake IaaS for tests of brokers, with faults on demand.
    Simulated,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Up { dir, cpi } => tokio::runtime::Runtime::new().context("make a runtime")?.block_on(up(&dir, cpi)),
        Command::Down { dir } => down(&dir),
        Command::Guard { dir } => guard::run(&dir),
    }
}

async fn up(directory: &Path, cpi: Cpi) -> Result<()> {
    if let Ok(running) = directory.canonicalize() {
        if !processes::of_stack(&running).is_empty() {
            println!("The stack in {} is already up; `make down` removes it.", running.display());
            return Ok(());
        }
        guard::remove(&running).context("remove what a broken stack left")?;
    }
    println!("Starting a director and, deployed by it, a broker ...");
    let wiring = match cpi {
        Cpi::Process => Wiring::Direct,
        Cpi::Simulated => Wiring::Simulated,
    };
    let stack = Stack::start_in(directory, wiring).await?;
    let environment = environment(&stack)?;
    director::write_secret(&stack.directory().join("env"), &environment)?;
    print!("{}", guide(&stack));
    if cpi == Cpi::Simulated {
        println!(
            "The MySQL servers are simulated. Faults and counts: see \"A fake IaaS for your tests\" in README.md."
        );
    }
    stack.leave();
    Ok(())
}

fn down(directory: &Path) -> Result<()> {
    // Processes may have outlived a directory that somebody removed by hand.
    let directory =
        directory.canonicalize().or_else(|_| std::path::absolute(directory)).context("resolve the directory")?;
    let count = processes::of_stack(&directory).len();
    if count == 0 && !directory.exists() {
        println!("There is no stack in {}.", directory.display());
        return Ok(());
    }
    guard::remove(&directory)?;
    println!("Removed {count} processes and {}.", directory.display());
    Ok(())
}

/// The shell assignments of `.run/env`. Nothing in the values needs more than single quotes.
fn environment(stack: &Stack) -> Result<String> {
    let director = &stack.director;
    let secret = std::fs::read_to_string(&director.secret_path).context("read the director's password")?;
    let ca_path = director.ca_path.display().to_string();
    let mut text = String::new();
    let mut assign = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "export {name}='{value}'");
    };
    assign("BROKER_URL", &stack.broker.url);
    assign("BROKER_USERNAME", &stack.broker.username);
    assign("BROKER_PASSWORD", &stack.broker.password);
    for (ours, bosh, value) in [
        ("DIRECTOR_URL", "BOSH_ENVIRONMENT", director.url.as_str()),
        ("DIRECTOR_CLIENT", "BOSH_CLIENT", &director.client),
        ("DIRECTOR_CLIENT_SECRET", "BOSH_CLIENT_SECRET", &secret),
        ("DIRECTOR_CA_CERT", "BOSH_CA_CERT", &ca_path),
    ] {
        assign(ours, value);
        assign(bosh, value);
    }
    assign("TANDEM_DIRECTOR", &director.program().display().to_string());
    assign("TANDEM_BLOCK", &format!("127.{}", stack.block));
    for process in processes::of_stack(stack.directory()) {
        assign(&pid_name(&process), &process.pid.to_string());
    }
    Ok(text)
}

/// `tandem-director` of no VM is the director; a VM's own `tandem-director` is its supervisor.
fn pid_name(process: &Process) -> String {
    let name = match (process.program.as_str(), &process.vm) {
        ("tandem-director", None) => "DIRECTOR",
        ("tandem-director", Some(_)) => "BROKER_VM",
        ("mysql-broker", _) => "BROKER",
        (other, _) => other,
    };
    format!("{}_PID", name.to_uppercase().replace('-', "_"))
}

fn guide(stack: &Stack) -> String {
    let directory = stack.directory().display();
    let director = stack.director.program().display();
    format!(
        "
The director   {director_url}   (user {client})
The broker     {broker_url}   (user {username}; deployment {deployment} of the director, in AZ z3)
The addresses  127.{block}.0.0/16
The keys       {directory}/env   (shell assignments: URLs, passwords, the director's CA, pids)

Next:
  . {directory}/env
  curl -su $BROKER_USERNAME:$BROKER_PASSWORD -H 'X-Broker-API-Version: 2.17' $BROKER_URL/v2/catalog
  {director} deployments
  make down
",
        director_url = stack.director.url,
        client = stack.director.client,
        broker_url = stack.broker.url,
        username = stack.broker.username,
        deployment = stack::BROKER_DEPLOYMENT,
        block = stack.block,
    )
}
