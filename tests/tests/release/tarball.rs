//! The tarball: its structure, its digests, and that the same input gives the same bytes. The programs in it are small stand-ins,
//! because a debug build of each is large; that the real ones exist is another test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tests::stack;

use crate::job::{document, release};
use crate::vm::text;

/// A file in an archive.
struct Packed {
    bytes: Vec<u8>,
    mode: u32,
}

type Files = BTreeMap<String, Packed>;

/// The files of an archive, which have no time and no owner.
fn unpack(bytes: &[u8]) -> Result<Files> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    let mut files = Files::new();
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let name = text(&entry.path_bytes());
        let header = entry.header();
        assert_eq!((header.mtime()?, header.uid()?, header.gid()?), (0, 0, 0), "{name}");
        let mode = header.mode()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).with_context(|| format!("read {name}"))?;
        ensure!(files.insert(name.clone(), Packed { bytes, mode }).is_none(), "{name} is there twice");
    }
    Ok(files)
}

/// The names of the programs in the package.
fn programs() -> Result<Vec<String>> {
    let spec = document("release/packages/tandem/spec")?;
    let files = spec["files"].as_array().context("the package has files")?;
    let name = |file: &Value| file.as_str()?.strip_prefix("tandem/bin/").map(str::to_owned);
    files.iter().map(|file| name(file).context("every file of the package is a program")).collect()
}

/// A directory of stand-ins for the built programs.
fn stand_ins() -> Result<TempDir> {
    let directory = tempfile::tempdir().context("make a directory")?;
    for name in programs()? {
        fs::write(directory.path().join(&name), format!("the program {name}")).context("write a stand-in")?;
    }
    Ok(directory)
}

fn writer(programs: &Path, output: &Path) -> Result<Command> {
    let mut command = Command::new(stack::programs()?.join("release"));
    command.arg("--source").arg(release()).arg("--programs").arg(programs).arg("--output").arg(output);
    Ok(command)
}

fn finish(command: &mut Command) -> Result<Output> {
    let output = command.output().context("run the writer of the release")?;
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, text(&output.stderr));
    Ok(output)
}

/// A release of stand-ins.
fn written(programs: &Path) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir().context("make a directory")?;
    let output = directory.path().join("tandem.tgz");
    finish(&mut writer(programs, &output)?)?;
    fs::read(&output).context("read the release")
}

fn manifest(release: &Files) -> Result<Value> {
    let value: serde_yaml::Value = serde_yaml::from_slice(&release["./release.MF"].bytes).context("read release.MF")?;
    serde_json::to_value(value).context("read release.MF")
}

/// The archives of one kind, each with what the manifest says of it. Their digests are right.
fn parts(release: &Files, kind: &str) -> Result<BTreeMap<String, (Value, Files)>> {
    let manifest = manifest(release)?;
    let listed = manifest[kind].as_array().with_context(|| format!("the manifest has {kind}"))?;
    let mut parts = BTreeMap::new();
    for entered in listed {
        let name = entered["name"].as_str().context("every part has a name")?.to_owned();
        let packed =
            release.get(&format!("./{kind}/{name}.tgz")).with_context(|| format!("{kind}/{name} is packed"))?;
        let digest: String = Sha256::digest(&packed.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(entered["sha1"], format!("sha256:{digest}"), "{name}");
        let fingerprint = entered["fingerprint"].as_str().context("every part has a fingerprint")?;
        assert_eq!((fingerprint.len(), &entered["version"]), (64, &entered["fingerprint"]), "{name}");
        parts.insert(name, (entered.clone(), unpack(&packed.bytes)?));
    }
    Ok(parts)
}

fn folders(kind: &str) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(release().join(kind)).with_context(|| format!("list {kind}"))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[test]
fn the_tarball_has_a_manifest_and_every_job_and_package_with_its_digest() -> Result<()> {
    let stand_ins = stand_ins()?;

    let release = unpack(&written(stand_ins.path())?)?;

    let head = manifest(&release)?;
    assert_eq!((&head["name"], &head["version"]), (&"tandem".into(), &env!("CARGO_PKG_VERSION").into()));
    assert!(head["commit_hash"].is_string() && head["uncommitted_changes"].is_boolean(), "{head}");
    let (jobs, packages) = (parts(&release, "jobs")?, parts(&release, "packages")?);
    assert_eq!(jobs.keys().cloned().collect::<BTreeSet<_>>(), folders("jobs")?);
    assert_eq!(packages.keys().cloned().collect::<BTreeSet<_>>(), folders("packages")?);
    assert_eq!(release.len(), 1 + jobs.len() + packages.len(), "nothing else is in it");
    Ok(())
}

#[test]
fn a_job_is_its_spec_its_monit_and_its_templates() -> Result<()> {
    let stand_ins = stand_ins()?;
    let packed = unpack(&written(stand_ins.path())?)?;

    for (name, (entered, files)) in parts(&packed, "jobs")? {
        let folder = release().join("jobs").join(&name);
        let spec = document(&format!("release/jobs/{name}/spec"))?;
        let templates = spec["templates"].as_object().context("a job has templates")?;
        let own = |path: &str| fs::read(folder.join(path)).with_context(|| format!("{name}: read {path}"));

        assert_eq!(files["./job.MF"].bytes, own("spec")?, "{name}");
        assert_eq!(files["./monit"].bytes, own("monit")?, "{name}");
        for template in templates.keys() {
            let template = format!("templates/{template}");
            assert_eq!(files[&format!("./{template}")].bytes, own(&template)?, "{name}: {template}");
        }
        assert_eq!(files.len(), 2 + templates.len(), "{name} has nothing else");
        assert_eq!(entered["packages"], spec["packages"], "{name}");
    }
    Ok(())
}

#[test]
fn the_same_input_gives_the_same_bytes_whenever_and_wherever_it_lies() -> Result<()> {
    let (one, other) = (stand_ins()?, stand_ins()?);

    assert!(written(one.path())? == written(other.path())?, "two releases of the same programs differ");
    Ok(())
}

#[test]
fn another_program_is_another_package_and_the_same_jobs() -> Result<()> {
    let (one, other) = (stand_ins()?, stand_ins()?);
    fs::write(other.path().join("mysql-agent"), "another agent").context("write another agent")?;

    let fingerprints = |programs: &Path, kind: &str| -> Result<BTreeMap<String, Value>> {
        let parts = parts(&unpack(&written(programs)?)?, kind)?;
        Ok(parts.into_iter().map(|(name, (entered, _))| (name, entered["fingerprint"].clone())).collect())
    };

    let (before, after) = (fingerprints(one.path(), "packages")?, fingerprints(other.path(), "packages")?);
    assert_ne!(before["tandem"], after["tandem"]);
    assert_eq!(before["mysql"], after["mysql"]);
    assert_eq!(fingerprints(one.path(), "jobs")?, fingerprints(other.path(), "jobs")?);
    Ok(())
}

#[test]
fn a_missing_program_is_named_and_nothing_is_written() -> Result<()> {
    let stand_ins = stand_ins()?;
    fs::remove_file(stand_ins.path().join("inspect")).context("remove a program")?;
    let output = stand_ins.path().join("tandem.tgz");

    let refused = writer(stand_ins.path(), &output)?.output().context("run the writer of the release")?;

    let complaint = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint.contains(&format!("read {}", stand_ins.path().join("inspect").display())), "{complaint}");
    assert!(!output.exists());
    Ok(())
}

#[test]
fn every_program_of_the_package_is_built_here() -> Result<()> {
    let built = stack::programs()?;
    let missing: Vec<_> = programs()?.into_iter().filter(|name| !built.join(name).is_file()).collect();

    assert_eq!(missing, Vec::<String>::new());
    Ok(())
}

/// Compile a package as BOSH does, and return where it was installed.
fn compile(package: &Files, directory: &Path) -> Result<PathBuf> {
    let (source, installed) = (directory.join("source"), directory.join("installed"));
    fs::create_dir_all(&installed).context("make a directory")?;
    for (name, packed) in package {
        let path = source.join(name);
        fs::create_dir_all(path.parent().context("a file is in a folder")?).context("make a directory")?;
        fs::write(&path, &packed.bytes).with_context(|| format!("write {name}"))?;
    }
    let mut compiler = Command::new("bash");
    compiler.args(["-x", "packaging"]).current_dir(&source).env("BOSH_INSTALL_TARGET", &installed);
    finish(&mut compiler)?;
    Ok(installed)
}

#[test]
fn the_package_of_the_programs_installs_them() -> Result<()> {
    let (stand_ins, directory) = (stand_ins()?, tempfile::tempdir().context("make a directory")?);
    let mut packages = parts(&unpack(&written(stand_ins.path())?)?, "packages")?;
    let (_, package) = packages.remove("tandem").context("the package is there")?;
    assert_eq!(package["./tandem/bin/mysql-agent"].mode, 0o755);

    let installed = compile(&package, directory.path())?;

    for name in programs()? {
        let said = fs::read_to_string(installed.join("bin").join(&name)).with_context(|| format!("read {name}"))?;
        assert_eq!(said, format!("the program {name}"));
    }
    Ok(())
}

#[test]
fn the_package_of_the_server_installs_an_archive_with_programs_that_know_where_they_are() -> Result<()> {
    let (stand_ins, directory) = (stand_ins()?, tempfile::tempdir().context("make a directory")?);
    let (server, archive) = (directory.path().join("mariadb-10.11"), directory.path().join("mariadb-10.11.tar.gz"));
    for (name, says) in
        [("bin/mariadbd", "the server"), ("bin/mbstream", "the unpacker"), ("scripts/mariadb-install-db", "made")]
    {
        let path = server.join(name);
        fs::create_dir_all(path.parent().context("a file is in a folder")?).context("make a directory")?;
        fs::write(&path, format!("#!/bin/sh\necho {says}: $@\n")).context("write a stand-in")?;
        ensure!(Command::new("chmod").arg("755").arg(&path).status()?.success(), "chmod failed");
    }
    let mut pack = Command::new("tar");
    finish(pack.arg("-czf").arg(&archive).arg("-C").arg(directory.path()).arg("mariadb-10.11"))?;
    let output = directory.path().join("tandem.tgz");
    finish(writer(stand_ins.path(), &output)?.arg("--server").arg(&archive))?;
    let mut packages = parts(&unpack(&fs::read(&output).context("read the release")?)?, "packages")?;
    let (_, package) = packages.remove("mysql").context("the package is there")?;

    let installed = compile(&package, directory.path())?;

    let says = |program: &str| -> Result<String> {
        let output = Command::new(installed.join("bin").join(program)).arg("--no-defaults").output();
        Ok(text(&output.with_context(|| format!("run {program}"))?.stdout))
    };
    let basedir = format!("--basedir={}\n", installed.join("server").display());
    assert_eq!(says("mariadbd")?, format!("the server: --no-defaults {basedir}"));
    assert_eq!(says("mariadb-install-db")?, format!("made: --no-defaults {basedir}"));
    assert_eq!(says("mbstream")?, "the unpacker: --no-defaults\n");
    ensure!(!installed.join("bin/mysqld").exists(), "a program that is not in the archive is not there");
    Ok(())
}
