//! Two names for the server's socket. A socket's path may have 107 bytes, and a VM's directory can be deeper than that;
//! then the server gets the path relative to its data directory and the agent the one relative to the VM's root, which are
//! the directories that they work in.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

const LIMIT: usize = 107;

/// The socket, as each of the two ends must name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) for_server: PathBuf,
    pub(crate) for_agent: PathBuf,
}

impl Socket {
    /// The socket `run/mysqld.sock` of the VM in `root`, with the server working in `store/data`.
    pub(super) fn new(root: &Path, run: &Path, store: &Path) -> Result<Socket> {
        let socket = run.join("mysqld.sock");
        if fits(&socket) {
            return Ok(Socket { for_server: socket.clone(), for_agent: socket });
        }
        let real = |path: &Path| path.canonicalize().with_context(|| format!("find {}", path.display()));
        // The directories under these two are the agent's own, made as plain directories.
        let from = real(store.parent().context("the store has a parent")?)?.join("mysql/data");
        let inside = socket.strip_prefix(root).context("the run directory is the VM's")?.to_path_buf();
        let for_server = relative(&from, &real(root)?.join(&inside));
        ensure!(
            fits(&for_server) && fits(&inside),
            "the socket {} cannot be named in {LIMIT} bytes; use a shorter directory for the VMs",
            socket.display()
        );
        std::env::set_current_dir(root).with_context(|| format!("work in {}", root.display()))?;
        Ok(Socket { for_server, for_agent: inside })
    }
}

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= LIMIT
}

/// The way from the directory `from` to `to`; both are absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_is_used_as_it_is() {
        let socket =
            Socket::new(Path::new("/vm"), Path::new("/vm/sys/run/mysql"), Path::new("/vm/store/mysql")).unwrap();

        assert_eq!(socket.for_server, Path::new("/vm/sys/run/mysql/mysqld.sock"));
        assert_eq!(socket.for_agent, socket.for_server);
    }

    #[test]
    fn the_way_between_two_directories_goes_over_what_they_share() {
        let way = relative(Path::new("/state/disks/d1/mysql/data"), Path::new("/state/vms/v1/run/mysqld.sock"));

        assert_eq!(way, Path::new("../../../../vms/v1/run/mysqld.sock"));
    }
}
