//! `make-read-only`: stop the writes on the leader of this VM.

use std::process::ExitCode;

use agent::api::Command;

fn main() -> ExitCode {
    errands::run_command(
        Command::MakeReadOnly,
        "Make the server on this VM read-only and wait until its peer has received everything",
        None,
    )
}
