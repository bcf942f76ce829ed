//! `make-read-only`.

fn main() {
    println!("{}", env!("CARGO_PKG_VERSION"));
}
