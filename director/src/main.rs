//! `tandem-director`: a BOSH director for one machine, its client subcommands, and the supervisor of one VM.

#[cfg_attr(not(test), expect(dead_code, reason = "until the director uses all of it"))]
mod cpi;
#[cfg_attr(not(test), expect(dead_code, reason = "until the director uses all of it"))]
mod endpoint;
#[cfg_attr(not(test), expect(dead_code, reason = "until the director uses all of it"))]
mod variables;
#[cfg_attr(not(test), expect(dead_code, reason = "until the director uses all of it"))]
mod vm;

fn main() {
    println!("{}", env!("CARGO_PKG_VERSION"));
}
