//! A disk that can be filled, and emptied again. It is in memory and mounted, which needs the rights of root.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// 8 MB.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn at(directory: PathBuf) -> Self {
        std::fs::create_dir_all(&directory).unwrap();
        let disk = Self(directory);
        disk.run("mount", &["-t", "tmpfs", "-o", "size=8m", "none"]);
        disk
    }

    /// Leave room for so many bytes.
    pub(crate) fn fill(&self, room: u64) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        let length = filler.metadata().unwrap().len();
        filler.set_len(length - room).unwrap();
    }

    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let done = Command::new(program).args(arguments).arg(&self.0).status().unwrap();
        assert!(done.success(), "{program} failed; this test mounts, so it needs the rights of root");
    }
}

impl Drop for SmallDisk {
    /// Lazily: what still runs there is about to end.
    fn drop(&mut self) {
        self.run("umount", &["--lazy"]);
    }
}
