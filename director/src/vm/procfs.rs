//! What `/proc` says about processes and listening sockets. Looking there disturbs nobody: a connection made only to
//! see whether a port is open counts as a failed login in mysqld.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustix::process::{Pid, WaitOptions, waitpid};

/// The numbers of all processes.
pub(super) fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The resident memory of a process; none when there is no such process.
pub(super) fn memory_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Children of this process that ended and wait to be reaped.
pub(super) fn ended_children() -> Vec<u32> {
    let this = std::process::id();
    let is_ended = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parse_stat(&stat) == Some(('Z', this))
    };
    pids().filter(is_ended).filter_map(|pid| u32::try_from(pid).ok()).collect()
}

pub(super) fn reap(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if pid.is_some() {
        // Somebody else may have reaped it, which is as good.
        let _ = waitpid(pid, WaitOptions::NOHANG);
    }
}

/// Whether somebody listens on `address:port`, or on that port of every address.
pub(super) fn is_listening(address: Ipv4Addr, port: u16) -> bool {
    let table = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let wanted = [local_v4(address, port), local_v4(Ipv4Addr::UNSPECIFIED, port), local_v6(port)];
    listeners(&table("tcp")).chain(listeners(&table("tcp6"))).any(|local| wanted.iter().any(|wanted| wanted == local))
}

/// State and parent out of `/proc/PID/stat`. The program's name before them may contain anything, also `)`.
fn parse_stat(stat: &str) -> Option<(char, u32)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The local addresses of a socket table's lines in state 0A, TCP_LISTEN.
fn listeners(table: &str) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        (fields.nth(1)? == "0A").then_some(local)
    })
}

/// The kernel prints the address as a number in the machine's byte order.
fn local_v4(address: Ipv4Addr, port: u16) -> String {
    format!("{:08X}:{port:04X}", u32::from_ne_bytes(address.octets()))
}

fn local_v6(port: u16) -> String {
    format!("{:032X}:{port:04X}", u128::from(Ipv6Addr::UNSPECIFIED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_confuse_the_stat_line() {
        assert_eq!(parse_stat("12 (a) Z 1) S) R 77 12 12 0"), Some(('R', 77)));
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_listener_is_seen_and_a_connection_is_not() {
        let address = Ipv4Addr::new(127, 82, 1, 1);
        let listener = std::net::TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connection = std::net::TcpStream::connect((address, port)).unwrap();

        assert!(is_listening(address, port));
        assert!(!is_listening(Ipv4Addr::new(127, 82, 1, 2), port));
        assert!(!is_listening(Ipv4Addr::LOCALHOST, connection.local_addr().unwrap().port()));
    }

    #[test]
    fn memory_of_this_process_is_known() {
        assert!(memory_kb(std::process::id()).is_some_and(|kb| kb > 500));
        assert_eq!(memory_kb(0), None);
    }
}
