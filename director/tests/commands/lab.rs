//! A director of its own for a test: the built program, real processes as VMs, small shell scripts as the programs of the
//! jobs.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tandem-director");

const RELEASE: &str = "
name: lab
version: 1.0.0
jobs:
- name: daemon
  program: daemon
  provides: [{name: db, type: db, port: 28220, health: {port: 28221, path: /v1/leader}}]
- {name: hello, errand: hello}
- {name: fails, errand: fails}
- {name: slow, errand: slow}
";

const CLOUD: &str = "
azs: [{name: z1}, {name: z2}]
vm_types: [{name: small, cloud_properties: {cpu: 1, ram: 256}}]
disk_types: [{name: 1GB, disk_size: 1024}]
networks:
- name: default
  type: manual
  subnets:
  - {az: z1, range: 127.97.BLOCK.0/27, gateway: 127.97.BLOCK.1}
  - {az: z2, range: 127.97.BLOCK.32/27, gateway: 127.97.BLOCK.33}
- {name: clients, type: vip, subnets: [{range: 127.97.BLOCK.64/27}]}
compilation: {workers: 1, az: z1, vm_type: small, network: default}
";

const MANIFEST: &str = "
name: lab
releases: [{name: lab, version: 1.0.0}]
stemcells: [{alias: default, os: ubuntu-jammy, version: '1.930'}]
update: {canaries: 1, max_in_flight: 1, serial: true, canary_watch_time: 10-20000, update_watch_time: 10-20000}
instance_groups:
- name: mysql
  instances: 2
  azs: [z1, z2]
  vm_type: small
  persistent_disk_type: 1GB
  stemcell: default
  networks: [{name: default}]
  jobs:
  - name: daemon
    release: lab
    provides: {db: {as: db, shared: true}}
    properties: {password: ((password)), given: ((given))}
  - {name: hello, release: lab}
  - {name: fails, release: lab}
  - {name: slow, release: lab}
variables:
- {name: password, type: password}
";

/// A director of its own; it and its VMs end with the test, however that ends.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    pub(crate) url: String,
    process: Child,
    block: u8,
    /// Held as long as the test runs: another run at the same time has other addresses.
    _claim: TcpListener,
}

impl Lab {
    pub(crate) fn start() -> Self {
        Self::configured("users: [{name: admin, password: secret}]")
    }

    /// With these lines in its `director.yml`.
    pub(crate) fn configured(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let claim = |block: u8| Some((block, TcpListener::bind((Ipv4Addr::new(127, 97, block, 254), 28199)).ok()?));
        let (block, claim) = (1..=250).find_map(claim).expect("a free block of addresses");
        let listen = format!("127.97.{block}.250:25555");
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        for (name, text) in [
            ("daemon", "trap 'exit 0' TERM\nwhile :; do sleep 0.05; done"),
            ("hello", "echo hello\necho again\ngrep -c deployment \"$2\" >&2"),
            ("fails", "echo no way >&2; exit 7"),
            ("slow", "sleep 300"),
        ] {
            let path = dir.path().join("bin").join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        file("release.yml", RELEASE);
        file("cloud.yml", &CLOUD.replace("BLOCK", &block.to_string()));
        file("manifest.yml", MANIFEST);
        let paths = "state: state\nrelease: release.yml\nprograms: bin\ndocuments: .";
        file("director.yml", &format!("{paths}\nlisten: {listen}\n{lines}\n"));
        let process = serve(dir.path());
        Self { dir, url: format!("https://{listen}"), process, block, _claim: claim }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// The manifest of the deployment `lab`, with its one given variable filled in.
    pub(crate) fn manifest(&self) -> String {
        MANIFEST.replace("((given))", "5")
    }

    pub(crate) fn cloud_config(&self) -> String {
        CLOUD.replace("BLOCK", &self.block.to_string())
    }

    pub(crate) fn address(&self, last: u8) -> String {
        format!("127.97.{}.{last}", self.block)
    }

    pub(crate) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = serve(self.dir.path());
    }

    /// A VM whose supervisor is gone does not answer any more.
    pub(crate) fn kill_supervisor(&self, cid: &str) {
        let root = self.dir.path().join("state/vms").join(cid);
        let is_it = |pid: &str| arguments(pid).starts_with(PROGRAM) && arguments(pid).contains(root.to_str().unwrap());
        let pids = processes(is_it);
        assert_eq!(pids.len(), 1, "{pids:?}");
        assert!(Command::new("kill").args(["-9", &pids[0]]).status().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_it(&pids[0]) {
            assert!(Instant::now() < deadline, "{} lives", pids[0]);
        }
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments.split(' ')).current_dir(self.dir.path());
        command.env("BOSH_ENVIRONMENT", &self.url).env("BOSH_CA_CERT", "state/tls/ca.pem");
        command.env("BOSH_CLIENT", "admin").env("BOSH_CLIENT_SECRET", "secret").env("BOSH_DEPLOYMENT", "lab");
        command
    }

    /// Run a subcommand that succeeds, and return what it prints.
    pub(crate) fn run(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{arguments}: {stdout}{stderr}");
        stdout
    }

    /// Run a subcommand that fails, and return everything that it prints.
    pub(crate) fn fail(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {text}");
        assert!(text.ends_with("\nExit code 1\n"), "{arguments}: {text}");
        text
    }

    pub(crate) fn until(&self, arguments: &str, is_there: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let text = self.run(arguments);
            if is_there(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "{arguments}: {text}");
        }
    }

    /// The CID of the VM in an AZ.
    pub(crate) fn cid(&self, az: &str) -> String {
        self.word(az, "vm-")
    }

    /// The CID of the disk in an AZ.
    pub(crate) fn disk(&self, az: &str) -> String {
        self.word(az, "disk-")
    }

    pub(crate) fn word(&self, az: &str, beginning: &str) -> String {
        let instances = self.run("instances --details");
        let row = instances.lines().find(|line| line.contains(az)).unwrap();
        row.split_whitespace().find(|word| word.starts_with(beginning)).unwrap().to_owned()
    }
}

impl Drop for Lab {
    /// However the test ended: an ignored instance or an errand that runs would keep its deployment from being deleted.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let is_ours = |pid: &str| {
            let works_here =
                std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(self.directory()));
            works_here || arguments(pid).contains(self.directory().to_str().unwrap())
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let rest = processes(is_ours);
            if rest.is_empty() || Instant::now() > deadline {
                return;
            }
            let _ = Command::new("kill").arg("-9").args(rest).stderr(Stdio::null()).status();
        }
    }
}

/// The ids of the processes of this machine that are meant.
fn processes(is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let names = processes.filter_map(|process| process.ok()?.file_name().into_string().ok());
    names.filter(|name| name.parse::<u32>().is_ok() && is_meant(name)).collect()
}

fn arguments(pid: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// Returns when it listens.
fn serve(dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--config", "director.yml"]).current_dir(dir).stdout(Stdio::piped()).stderr(log);
    let mut process = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("tandem-director listens on https://127.97."), "{line}");
    process
}
