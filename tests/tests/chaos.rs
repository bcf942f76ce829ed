//! A bounded part of the fault matrix, on every run of the tests. `make chaos` plays all of it.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// No schedule begins later than this; the last one may take a while.
const SECONDS: &str = "75";
/// Fixed, so that a failure is there again on the next run. Which one it is does not matter: the schedules go through the
/// faults in turn, the leader's first, and through the errands with them.
const FIRST_SEED: &str = "1";

#[test]
fn a_part_of_the_fault_matrix_is_played_without_a_broken_promise() -> Result<()> {
    let program = tests::stack::programs()?.join("chaos");
    // However this test ends, the world of the faults ends with it.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .args(["--may-skip", "--pairs", "2", "--schedules", "60", "--seed", FIRST_SEED, "--seconds", SECONDS])
        .output()
        .context("start the fault matrix")?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));

    println!("{said}");
    eprintln!("{complained}");
    ensure!(output.status.success(), "the fault matrix ended with {}", output.status);
    Ok(())
}
