//! The package of the server, made of an archive as its makers publish it, and the agent on it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::processes;

use crate::job::release;
use crate::programs::{AGENT, leads, service_instance};
use crate::vm::{Vm, text};

/// What the archive of a MariaDB server must hold (packages/mysql/README.md), and what its installer looks for beside it.
const PROGRAMS: [&str; 7] =
    ["mariadbd", "mariadb", "mariadb-backup", "mbstream", "mariadb-binlog", "my_print_defaults", "resolveip"];
const INSTALLER: &str = "mariadb-install-db";

fn program(name: &str) -> Result<PathBuf> {
    let places = ["/usr/bin", "/usr/sbin"].map(|place| Path::new(place).join(name));
    places.into_iter().find(|path| path.is_file()).with_context(|| format!("find {name}"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, text(&output.stderr));
    Ok(())
}

/// This machine's server as an archive, for the package's script to find.
fn put_archive(directory: &Path) -> Result<()> {
    let root = directory.join("mariadb-10.11.0-linux-systemd-x86_64");
    for folder in ["bin", "scripts", "share", "sbin"] {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("make {folder}"))?;
    }
    for name in PROGRAMS {
        symlink(program(name)?, root.join("bin").join(name))?;
    }
    symlink(program(INSTALLER)?, root.join("scripts").join(INSTALLER))?;
    symlink("/usr/share/mysql", root.join("share/mysql"))?;
    // Debian's installer looks for the server there, the makers' in `bin`.
    symlink(program("mariadbd")?, root.join("sbin/mariadbd"))?;
    fs::create_dir(directory.join("mysql")).context("make the place of the archive")?;
    let archive = directory.join("mysql/mariadb-10.11.0-linux-systemd-x86_64.tar");
    // With the files that the links lead to.
    let mut tar = Command::new("tar");
    run(tar.arg("-chf").arg(archive).arg("-C").arg(directory).arg(root.file_name().context("the archive has a root")?))
}

/// Compile the package as a director does.
fn install(vm: &Vm) -> Result<PathBuf> {
    let work = tempfile::tempdir().context("make a place to compile in")?;
    put_archive(work.path())?;
    let target = vm.root().join("packages/mysql");
    fs::create_dir_all(&target).context("make the package's directory")?;
    let script = release().join("packages/mysql/packaging");
    run(Command::new("bash").arg(script).current_dir(work.path()).env("BOSH_INSTALL_TARGET", &target))?;
    Ok(target)
}

#[tokio::test]
async fn the_agent_runs_the_server_of_the_package() -> Result<()> {
    let vm = service_instance(1, "single-node")?.remove(0);
    let package = install(&vm)?;

    let said = vm.succeeds(AGENT, "bin/pre-start", &[])?;
    vm.succeeds(AGENT, "bin/ctl", &["start"])?;
    vm.succeeds(AGENT, "bin/post-start", &[])?;
    leads(&vm).await?;

    ensure!(said.trim() == package.join("bin/mariadbd").to_str().unwrap_or_default(), "pre-start found {said}");
    let servers = processes::of_stack(vm.root()).into_iter().filter(|process| process.program == "mariadbd");
    let files: Vec<PathBuf> =
        servers.map(|server| fs::read_link(format!("/proc/{}/exe", server.pid))).collect::<Result<_, _>>()?;
    assert_eq!(files, [package.join("server/bin/mariadbd")]);
    vm.succeeds(AGENT, "bin/ctl", &["stop"])?;
    assert_eq!(processes::of_stack(vm.root()), []);
    Ok(())
}

#[test]
fn an_archive_without_a_server_and_two_archives_are_refused() -> Result<()> {
    for (names, complaint) in
        [(vec!["a.tar"], "has neither bin/mariadbd nor bin/mysqld"), (vec!["a.tar", "b.tar"], "one archive")]
    {
        let (work, target) = (tempfile::tempdir()?, tempfile::tempdir()?);
        fs::create_dir_all(work.path().join("mysql"))?;
        fs::create_dir_all(work.path().join("server/bin"))?;
        for name in names {
            let archive = work.path().join("mysql").join(name);
            run(Command::new("tar").arg("-cf").arg(archive).arg("-C").arg(work.path()).arg("server"))?;
        }
        let script = release().join("packages/mysql/packaging");
        let mut packaging = Command::new("bash");
        let output =
            packaging.arg(script).current_dir(work.path()).env("BOSH_INSTALL_TARGET", target.path()).output()?;
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(complaint), "{}", text(&output.stderr));
    }
    Ok(())
}
