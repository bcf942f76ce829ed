//! A block of loopback addresses, `127.N.0.0/16`, that one stack has for itself. The claim is a bound socket: the kernel
//! gives it to one process at a time, whoever the user is, and takes it back however that process ends.

use std::fs;
use std::net::TcpListener;

use anyhow::{Result, bail};
use rand::Rng as _;

/// The blocks that may be taken. Those below belong to the packages' own tests, which have fixed addresses, and to other
/// programs of the machine.
const BLOCKS: std::ops::RangeInclusive<u8> = 100..=250;
/// The claim of a block is this port on its last address.
const CLAIM_PORT: u16 = 24999;
/// The director of block N listens on this port plus N, so that it never meets another stack's.
const FIRST_DIRECTOR_PORT: u16 = 25000;

/// A claimed block; let go of it and it is free.
#[derive(Debug)]
pub struct Block {
    /// N in `127.N.0.0/16`.
    pub number: u8,
    claim: TcpListener,
}

impl Block {
    /// Claim a block in which nothing listens.
    ///
    /// # Errors
    /// All are taken.
    pub fn claim() -> Result<Block> {
        let first = rand::rng().random_range(BLOCKS);
        let candidates = (first..=*BLOCKS.end()).chain(*BLOCKS.start()..first);
        match candidates.filter(|number| is_unused(*number)).find_map(Block::take) {
            Some(block) => Ok(block),
            None => bail!("every block from 127.{}.0.0/16 to 127.{}.0.0/16 is in use", BLOCKS.start(), BLOCKS.end()),
        }
    }

    /// The port of the block's director.
    #[must_use]
    pub fn director_port(number: u8) -> u16 {
        FIRST_DIRECTOR_PORT + u16::from(number)
    }

    /// Is nobody else's claim in the way? Only true while this value lives.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.claim.local_addr().is_ok()
    }

    fn take(number: u8) -> Option<Block> {
        let claim = TcpListener::bind(format!("127.{number}.255.254:{CLAIM_PORT}")).ok()?;
        // Two claimants may both have seen an unused block; the second look is made by the owner alone.
        let director_port_is_free = TcpListener::bind(("127.0.0.1", Block::director_port(number))).is_ok();
        director_port_is_free.then_some(Block { number, claim })
    }
}

/// Every address of the block on which something listens.
#[must_use]
pub fn listeners(number: u8) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    listeners_in(&table, number)
}

fn is_unused(number: u8) -> bool {
    listeners(number).is_empty()
}

/// `/proc/net/tcp` prints an address as eight hexadecimal digits in the machine's byte order and a listener as state 0A.
fn listeners_in(table: &str, number: u8) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, state) = (words.next()?, words.nth(1)?);
            let (address, port) = local.split_once(':')?;
            let [a, b, c, d] = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
            let port = u16::from_str_radix(port, 16).ok()?;
            (state == "0A" && a == 127 && b == number && port != CLAIM_PORT).then(|| format!("{a}.{b}.{c}.{d}:{port}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_block_is_not_given_twice() {
        let first = Block::claim().unwrap();
        let second = Block::claim().unwrap();

        assert_ne!(first.number, second.number);
        assert!(Block::take(first.number).is_none());
    }

    #[test]
    fn listeners_of_a_block_are_read_from_the_kernels_table() {
        let listener = TcpListener::bind("127.19.1.2:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();

        assert_eq!(listeners(19), [address]);
    }
}
