//! The director and its client subcommands as an operator uses them: the built program, real processes as VMs, small
//! shell scripts as the programs of the jobs.
#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

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
struct Director {
    dir: tempfile::TempDir,
    url: String,
    process: Child,
    block: u8,
    /// Held as long as the test runs: another run at the same time has other addresses.
    _claim: TcpListener,
}

impl Director {
    fn start() -> Self {
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
        let users = "users: [{name: admin, password: secret}]";
        let paths = "state: state\nrelease: release.yml\nprograms: bin\ndocuments: .";
        file("director.yml", &format!("{paths}\nlisten: {listen}\n{users}\n"));
        let process = serve(dir.path());
        Self { dir, url: format!("https://{listen}"), process, block, _claim: claim }
    }

    fn address(&self, last: u8) -> String {
        format!("127.97.{}.{last}", self.block)
    }

    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = serve(self.dir.path());
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments.split(' ')).current_dir(self.dir.path());
        command.env("BOSH_ENVIRONMENT", &self.url).env("BOSH_CA_CERT", "state/tls/ca.pem");
        command.env("BOSH_CLIENT", "admin").env("BOSH_CLIENT_SECRET", "secret").env("BOSH_DEPLOYMENT", "lab");
        command
    }

    /// Run a subcommand that succeeds, and return what it prints.
    fn run(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{arguments}: {stdout}{stderr}");
        stdout
    }

    /// Run a subcommand that fails, and return everything that it prints.
    fn fail(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {text}");
        assert!(text.ends_with("\nExit code 1\n"), "{arguments}: {text}");
        text
    }

    fn until(&self, arguments: &str, is_there: impl Fn(&str) -> bool) -> String {
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
    fn cid(&self, az: &str) -> String {
        self.word(az, "vm-")
    }

    /// The CID of the disk in an AZ.
    fn disk(&self, az: &str) -> String {
        self.word(az, "disk-")
    }

    fn word(&self, az: &str, beginning: &str) -> String {
        let instances = self.run("instances --details");
        let row = instances.lines().find(|line| line.contains(az)).unwrap();
        row.split_whitespace().find(|word| word.starts_with(beginning)).unwrap().to_owned()
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let _ = self.command("delete-deployment --force").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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

/// Whether a line of a table has all these words.
fn has_row(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

fn is_running_twice(instances: &str) -> bool {
    instances.matches(" running ").count() == 2
}

#[test]
fn an_operator_drives_a_deployment_from_its_first_deploy_to_its_end() {
    let mut director = Director::start();
    assert!(has_row(&director.run("env"), &["User", "admin"]));
    assert!(director.run("update-cloud-config cloud.yml").ends_with("\nSucceeded\n"));
    assert_eq!(director.run("cloud-config"), std::fs::read_to_string(director.dir.path().join("cloud.yml")).unwrap());
    refuses_what_is_wrong(&director);

    let deployed = director.run("deploy manifest.yml -v given=5");
    assert!(deployed.contains(" | Updating instance mysql: mysql/") && deployed.contains(" done\n"), "{deployed}");
    assert!(has_row(&director.run("deployments"), &["lab", "lab/1.0.0", "ubuntu-jammy/1.930"]));
    assert!(director.run("manifest").contains("given: 5"), "given values are part of the manifest");
    assert!(director.run("variables").contains("/tandem/lab/password"));
    assert!(director.run("link-address").contains(&director.address(65)));
    let instances = director.run("instances --ps --details");
    assert!(has_row(&instances, &["mysql/", "z2", &director.address(34), "disk-", "false"]), "{instances}");
    assert!(has_row(&instances, &["~", "daemon", "running"]), "{instances}");

    runs_errands(&director);
    moves_instances(&director);
    survives_losses(&mut director);

    assert!(director.run("delete-deployment").contains("done"));
    assert!(director.run("delete-deployment").ends_with("\nSucceeded\n"), "there is nothing left to delete");
    let orphans = director.run("disks --orphaned");
    assert!(orphans.contains("2 disks"), "{orphans}");
    let disk = orphans.split_whitespace().find(|word| word.starts_with("disk-")).unwrap();
    director.run(&format!("delete-disk {disk}"));
    director.run("clean-up --all");
    assert!(director.run("disks --orphaned").contains("0 disks"));
    for name in ["state/vms", "state/disks"] {
        assert_eq!(std::fs::read_dir(director.dir.path().join(name)).unwrap().count(), 0, "{name}");
    }
}

fn refuses_what_is_wrong(director: &Director) {
    let cases = [
        ("deploy manifest.yml", "the variable given is not defined in `variables:` and was not given"),
        ("deploy manifest.yml -v given", "a variable is given as -v NAME=VALUE"),
        ("deploy nothing.yml", "read the manifest nothing.yml"),
        ("deploy manifest.yml -d other", "Expected manifest to specify deployment name 'other' but was 'lab'"),
        ("errands -d nope", "Deployment 'nope' doesn't exist"),
        ("task 99", "Task 99 not found"),
        ("restart --no-converge", "--no-converge needs one instance"),
        ("env -e https://127.0.0.1:1", "cannot reach the director at https://127.0.0.1:1"),
        ("deployments --client nobody", "the director does not know this user"),
    ];
    for (arguments, expected) in cases {
        let text = director.fail(arguments);
        assert!(text.contains(expected), "{arguments}: {text}");
    }
}

fn runs_errands(director: &Director) {
    assert!(director.run("errands").contains("\nfails\nhello\nslow\n"));
    let hello = director.run("run-errand hello --instance=mysql/1");
    let expected = "\nExit Code  0\nStdout     hello\n           again\nStderr     1\n\n1 errand(s)\n\nSucceeded\n";
    assert!(hello.ends_with(expected), "{hello}");
    assert!(director.run("run-errand hello").contains("2 errand(s)"));
    let fails = director.fail("run-errand fails --instance=mysql/0");
    assert!(fails.contains("Exit Code  7\nStdout     -\nStderr     no way\n"), "{fails}");
    assert!(director.fail("run-errand nope").contains("Errand 'nope' doesn't exist"));

    let mut slow = director.command("run-errand slow --instance=mysql/0");
    let slow = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let tasks = director.until("tasks", |tasks| has_row(tasks, &["processing", "run errand slow"]));
    let id = tasks.lines().find(|line| line.contains("processing")).unwrap().split(' ').next().unwrap();
    assert!(has_row(&director.run("locks"), &["deployment", "lab", id]));
    director.run(&format!("cancel-task {id}"));
    let slow = slow.wait_with_output().unwrap();
    let text = String::from_utf8(slow.stdout).unwrap();
    assert!(!slow.status.success() && text.contains("Exit Code  143\n"), "{text}");
    assert!(has_row(&director.run("tasks --recent=1"), &[id, "cancelled", "admin"]));
    assert!(director.run(&format!("task {id} --result")).contains(r#""exit_code":143"#));
}

fn moves_instances(director: &Director) {
    let first = director.cid("z1");
    director.run("stop mysql/0");
    assert!(has_row(&director.run("instances"), &["z1", "stopped"]));
    director.run("start mysql/0");
    director.run("restart mysql/0 --no-converge");
    assert_eq!(director.cid("z1"), first);
    director.run("recreate mysql/0");
    assert_ne!(director.cid("z1"), first);
    director.run("stop mysql/1 --hard");
    assert!(director.run("vms").contains("1 vms"));
    director.run("start mysql/1");
    assert!(is_running_twice(&director.run("instances")));
    changes_a_disk(director);
}

fn changes_a_disk(director: &Director) {
    let old = director.disk("z2");
    let refusal = director.fail(&format!("orphan-disk {old}"));
    assert!(
        refusal.contains("is attached to VM") && refusal.contains("`stop --hard` or `delete-vm` first"),
        "{refusal}"
    );
    director.run("stop mysql/1 --hard");
    director.run(&format!("orphan-disk {old}"));
    assert!(has_row(&director.run("disks --orphaned"), &[&old, "mysql/"]));
    assert!(director.run(&format!("orphan-disk {old}")).contains("is an orphan already"));
    director.run("start mysql/1");
    assert_ne!(director.disk("z2"), old);
    director.run(&format!("delete-disk {old}"));
}

fn survives_losses(director: &mut Director) {
    let vm = director.cid("z1");
    director.restart();
    assert!(is_running_twice(&director.run("instances")), "VMs outlive the director");
    assert_eq!(director.cid("z1"), vm);

    director.run("update-resurrection off");
    director.run(&format!("delete-vm {vm}"));
    assert!(director.run("vms").contains("1 vms"));
    director.run("update-resurrection on");
    let instances = director.until("instances", is_running_twice);
    assert!(has_row(&instances, &["z1", &director.address(2)]), "{instances}");
}
