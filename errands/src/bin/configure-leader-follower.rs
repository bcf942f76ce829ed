//! `configure-leader-follower`.

fn main() {
    println!("{}", env!("CARGO_PKG_VERSION"));
}
