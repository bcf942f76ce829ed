//! `tandem-director`: a BOSH director for one machine, its client subcommands, and the supervisor of one VM.

fn main() {
    println!("{}", env!("CARGO_PKG_VERSION"));
}
