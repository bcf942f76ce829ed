//! A VM as BOSH lays it out, in a directory: jobs rendered, the built programs as the package, and the scripts run as BOSH and
//! monit run them. `/var/vcap` is the directory, and the two commands that only a VM's root may use do nothing here.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{processes, stack};

use crate::job::{Instance, render};

/// There is no user `vcap` on this machine.
const STUBS: [(&str, &str); 2] =
    [("chown", "#!/bin/sh\n"), ("setpriv", "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n")];

/// A VM; its processes end with it.
pub(crate) struct Vm {
    directory: TempDir,
    instance: Instance,
}

impl Vm {
    pub(crate) fn new(instance: &Instance) -> Result<Vm> {
        let directory = tempfile::Builder::new().prefix("vm").tempdir().context("make a VM's directory")?;
        let vm = Vm { directory, instance: instance.clone() };
        for made in ["jobs", "store", "data", "sys/run", "sys/log", "packages/tandem", "stubs"] {
            fs::create_dir_all(vm.root().join(made)).with_context(|| format!("make {made}"))?;
        }
        symlink(stack::programs()?, vm.root().join("packages/tandem/bin")).context("link the programs")?;
        for (name, text) in STUBS {
            write_program(&vm.root().join("stubs").join(name), text)?;
        }
        Ok(vm)
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, job: &str, file: &str) -> PathBuf {
        self.root().join("jobs").join(job).join(file)
    }

    /// Render a job and put it where BOSH puts it.
    pub(crate) fn install(&self, job: &str, properties: &Value) -> Result<()> {
        let root = self.root().to_str().context("the directory's name is text")?;
        for (file, text) in render(job, &self.instance, properties)? {
            let mut text = text.replace("/var/vcap", root);
            if file.ends_with(".json") {
                let mut config: Value = serde_json::from_str(&text).with_context(|| format!("{job}: read {file}"))?;
                config["spec"]["root"] = json!(root);
                config["spec"]["vm_resources"] = json!({"cpu": 1, "ram": 256});
                text = config.to_string();
            }
            write_program(&self.path(job, &file), &text)?;
        }
        Ok(())
    }

    /// Run a script of a job.
    pub(crate) fn run(
        &self,
        job: &str,
        script: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Output> {
        let path = std::env::var("PATH").context("read PATH")?;
        let path = format!("{}:{path}:/usr/sbin:/sbin", self.root().join("stubs").display());
        Command::new(self.path(job, script))
            .args(arguments)
            .env("PATH", path)
            .envs(variables.iter().copied())
            .output()
            .with_context(|| format!("run {script} of {job}"))
    }

    /// Run a script of a job that must end well, and return what it said.
    pub(crate) fn succeeds(&self, job: &str, script: &str, arguments: &[&str]) -> Result<String> {
        let output = self.run(job, script, arguments, &[])?;
        let (said, complaint) = (text(&output.stdout), text(&output.stderr));
        let log = stack::tail(&self.root().join(format!("sys/log/{job}/{job}.log")), 20);
        ensure!(output.status.success(), "{script} of {job} ended with {}: {said}{complaint}\n{log}", output.status);
        Ok(said)
    }

    /// The process that `ctl` started.
    pub(crate) fn pid(&self, job: &str) -> Result<i32> {
        let file = self.root().join(format!("sys/run/{job}/{job}.pid"));
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        text.trim().parse().context("read the process id")
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Err(cause) = processes::kill_stack(self.root()) {
            eprintln!("{cause:#}");
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o750)).with_context(|| format!("open {}", path.display()))
}
