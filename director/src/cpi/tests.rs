//! The process CPI with real processes: small shell scripts as the programs of the jobs.

mod errands;

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use serde_json::json;

use super::*;
use crate::vm::marked;

/// A program that writes down its process number and runs until SIGTERM, which it notes.
const DAEMON: &str = r#"#!/bin/sh
trap 'echo terminated >>"$PWD/data/notes"; exit 0' TERM
echo $$ >"$PWD/data/pid"
while :; do sleep 0.05; done
"#;

/// An agent that leaves a server behind, in a session of its own.
const LEAVES_A_SERVER: &str = r#"#!/bin/sh
setsid sh -c 'trap "echo server terminated >>data/notes; exit 0" TERM; echo $$ >data/server; while :; do sleep 0.05; done' &
while :; do sleep 0.05; done
"#;

/// A machine with a state directory and programs; whatever happens, its processes end with it.
struct Machine {
    dir: tempfile::TempDir,
    cpi: Cpi,
    cids: Vec<String>,
}

impl Machine {
    fn new(programs: &[(&str, &str)]) -> Self {
        Self::below(tempfile::tempdir().unwrap(), "state", programs)
    }

    fn below(dir: tempfile::TempDir, state: &str, programs: &[(&str, &str)]) -> Self {
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for (name, text) in programs {
            write_program(&bin.join(name), text);
        }
        let program = dir.path().join("supervisor");
        let test = std::env::current_exe().unwrap();
        let run = format!("exec {} --exact vm::tests::be_a_supervisor --ignored --nocapture", test.display());
        write_program(&program, &format!("#!/bin/sh\nexport TANDEM_TEST_VM_DIR=\"$3\"\n{run}\n"));
        let state = dir.path().join(state);
        let cpi = Cpi::new(Layout { state, programs: bin, documents: dir.path().to_owned(), program });
        Self { dir, cpi, cids: Vec::new() }
    }

    fn order(&mut self, address: [u8; 4], jobs: Vec<Job>) -> VmOrder {
        let cid = format!("vm-{}", uuid::Uuid::new_v4());
        self.cids.push(cid.clone());
        VmOrder { cid, address: address.into(), disk: None, jobs }
    }

    async fn vm(&mut self, address: [u8; 4], jobs: Vec<Job>) -> String {
        let order = self.order(address, jobs);
        self.cpi.create_vm(&order).await.unwrap();
        order.cid
    }

    async fn state(&self, cid: &str) -> Option<ProcessState> {
        match self.cpi.vm_state(cid).await {
            VmState::Present { processes } => processes.first().map(|process| process.state),
            VmState::Missing | VmState::Silent => None,
        }
    }

    async fn until_state(&self, cid: &str, wanted: ProcessState) {
        until(async || (self.state(cid).await == Some(wanted)).then_some(())).await;
    }

    /// What a program of the VM wrote to `data/NAME`, once it did.
    async fn data(&self, cid: &str, name: &str) -> String {
        let file = self.cpi.root(cid).join("data").join(name);
        until(async || std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'))).await
    }

    async fn pid(&self, cid: &str, name: &str) -> Pid {
        Pid::from_raw(self.data(cid, name).await.trim().parse().unwrap()).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let cids = std::mem::take(&mut self.cids);
        let clean_up = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            cids.iter().for_each(|cid| runtime.block_on(marked::kill_all(cid)).unwrap());
        };
        std::thread::spawn(clean_up).join().unwrap();
    }
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn job(name: &str) -> Job {
    Job {
        name: name.into(),
        program: Some(name.into()),
        errand: None,
        pre_stop: vec![],
        ports: vec![],
        config: json!({"a": 1}),
    }
}

/// An address of this run of the tests: another run at the same time has others.
fn local(last: u8) -> [u8; 4] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, 64 | high & 0x1f, low, last]
}

async fn until<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_gone(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    until(async || std::fs::read_to_string(&stat).map_or(Some(()), |text| text.contains(") Z ").then_some(()))).await;
}

#[tokio::test]
async fn a_new_vm_has_its_directories_and_runs_nothing_until_it_is_started() {
    let mut machine = Machine::new(&[("daemon", DAEMON)]);
    let cid = machine.vm(local(1), vec![job("daemon")]).await;

    assert_eq!(machine.state(&cid).await, Some(ProcessState::Stopped));
    let root = machine.cpi.root(&cid);
    for name in ["data", "sys/run", "sys/log/daemon", "packages/tandem/bin/daemon", "packages/cache"] {
        assert!(root.join(name).exists(), "{name}");
    }
    let config = root.join("jobs/daemon/config.json");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&std::fs::read(&config).unwrap()).unwrap(), json!({"a": 1}));
    assert_eq!(config.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    machine.cpi.start_jobs(&cid).await.unwrap();
    machine.until_state(&cid, ProcessState::Running).await;
    let VmState::Present { processes } = machine.cpi.vm_state(&cid).await else { panic!("it is there") };
    assert_eq!(processes[0].name, "daemon");
    assert!(processes[0].memory_kb > 0);
    assert_eq!(machine.cpi.vms().await.unwrap(), [cid]);
}

#[tokio::test]
async fn a_program_that_is_killed_runs_again() {
    let mut machine = Machine::new(&[("daemon", DAEMON)]);
    let cid = machine.vm(local(2), vec![job("daemon")]).await;
    machine.cpi.start_jobs(&cid).await.unwrap();
    let first = machine.pid(&cid, "pid").await;

    kill_process(first, Signal::KILL).unwrap();

    until(async || (machine.pid(&cid, "pid").await != first).then_some(())).await;
    machine.until_state(&cid, ProcessState::Running).await;
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_failing_and_can_be_stopped() {
    let mut machine = Machine::new(&[("broken", "#!/bin/sh\necho no >&2\nexit 3\n")]);
    let cid = machine.vm(local(3), vec![job("broken")]).await;

    machine.cpi.start_jobs(&cid).await.unwrap();

    machine.until_state(&cid, ProcessState::Failing).await;
    machine.cpi.stop_jobs(&cid).await.unwrap();
    assert_eq!(machine.state(&cid).await, Some(ProcessState::Stopped));
    let log = machine.cpi.root(&cid).join("sys/log/broken/stderr.log");
    assert!(std::fs::read_to_string(log).unwrap().starts_with("no\n"));
}

#[tokio::test]
async fn a_program_starts_until_its_ports_are_open() {
    let mut machine = Machine::new(&[("daemon", DAEMON)]);
    let cid = machine.vm(local(4), vec![Job { ports: vec![28201], ..job("daemon") }]).await;
    machine.cpi.start_jobs(&cid).await.unwrap();
    let pid = machine.pid(&cid, "pid").await;
    assert_eq!(machine.state(&cid).await, Some(ProcessState::Starting));

    let listener = std::net::TcpListener::bind((Ipv4Addr::from(local(4)), 28201)).unwrap();
    machine.until_state(&cid, ProcessState::Running).await;
    drop(listener);
    assert_eq!(machine.state(&cid).await, Some(ProcessState::Running), "a port may close later on");

    kill_process(pid, Signal::KILL).unwrap();
    until(async || (machine.pid(&cid, "pid").await != pid).then_some(())).await;
    machine.until_state(&cid, ProcessState::Starting).await;
}

#[tokio::test]
async fn stop_says_sigterm_and_ends_what_the_program_left_behind() {
    let mut machine = Machine::new(&[("agent", LEAVES_A_SERVER), ("daemon", DAEMON)]);
    let cid = machine.vm(local(5), vec![job("agent"), job("daemon")]).await;
    machine.cpi.start_jobs(&cid).await.unwrap();
    let (server, daemon) = (machine.pid(&cid, "server").await, machine.pid(&cid, "pid").await);

    machine.cpi.stop_jobs(&cid).await.unwrap();

    until_gone(server).await;
    until_gone(daemon).await;
    let notes = machine.data(&cid, "notes").await;
    assert!(notes.contains("server terminated") && notes.contains("\nterminated") | notes.starts_with("terminated"));
    machine.cpi.stop_jobs(&cid).await.unwrap();
    machine.cpi.start_jobs(&cid).await.unwrap();
    until(async || (machine.pid(&cid, "pid").await != daemon).then_some(())).await;
}

#[tokio::test]
async fn another_director_finds_the_vm_again() {
    let mut machine = Machine::new(&[("daemon", DAEMON)]);
    let cid = machine.vm(local(6), vec![job("daemon")]).await;
    machine.cpi.start_jobs(&cid).await.unwrap();
    let pid = machine.pid(&cid, "pid").await;

    let path = machine.dir.path();
    let layout = Layout {
        state: path.join("state"),
        programs: path.join("bin"),
        documents: path.to_owned(),
        program: path.join("supervisor"),
    };
    let other = Cpi::new(layout);

    let VmState::Present { processes } = other.vm_state(&cid).await else { panic!("it is there") };
    assert_eq!(processes[0].pid, Some(pid.as_raw_nonzero().get().cast_unsigned()));
    let group = getpgid(Some(pid)).unwrap();
    assert_ne!(group, getpgid(None).unwrap(), "a signal to the director's group must not reach the VM");
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), group);
    other.stop_jobs(&cid).await.unwrap();
    until_gone(pid).await;
}

#[tokio::test]
async fn a_vm_whose_group_is_killed_is_missing_and_delete_ends_its_leftovers() {
    let mut machine = Machine::new(&[("agent", LEAVES_A_SERVER), ("daemon", DAEMON)]);
    let cid = machine.vm(local(7), vec![job("agent"), job("daemon")]).await;
    machine.cpi.start_jobs(&cid).await.unwrap();
    let (server, daemon) = (machine.pid(&cid, "server").await, machine.pid(&cid, "pid").await);

    kill_process_group(getpgid(Some(daemon)).unwrap(), Signal::KILL).unwrap();

    until(async || (machine.cpi.vm_state(&cid).await == VmState::Missing).then_some(())).await;
    until_gone(daemon).await;
    assert!(Path::new(&format!("/proc/{}", server.as_raw_nonzero())).exists(), "a server outlives its agent");
    machine.cpi.delete_vm(&cid).await.unwrap();
    until_gone(server).await;
    assert!(!machine.cpi.root(&cid).exists());
    machine.cpi.delete_vm(&cid).await.unwrap();
    assert!(machine.cpi.vms().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_taken_port_address_or_missing_program_is_named_and_nothing_is_left() {
    let mut machine = Machine::new(&[("daemon", DAEMON)]);
    let _taken = std::net::TcpListener::bind((Ipv4Addr::from(local(8)), 28202)).unwrap();
    let vm = machine.vm(local(9), vec![job("daemon")]).await;
    let cases = [
        (
            machine.order(local(8), vec![Job { ports: vec![28202], ..job("daemon") }]),
            format!("port 28202 of {}", Ipv4Addr::from(local(8))),
        ),
        (machine.order(local(9), vec![]), format!("the address {} is taken by another VM", Ipv4Addr::from(local(9)))),
        (machine.order([192, 0, 2, 1], vec![]), "the address 192.0.2.1 cannot be used on this machine".to_owned()),
        (machine.order(local(8), vec![job("nothing")]), "the program of job nothing is not there".to_owned()),
    ];
    for (order, expected) in cases {
        let error = machine.cpi.create_vm(&order).await.unwrap_err();

        assert!(format!("{error:#}").contains(&expected), "{error:#}");
    }
    assert_eq!(machine.cpi.vms().await.unwrap(), [vm]);
}

#[tokio::test]
async fn a_vm_gets_other_jobs_and_documents_while_it_is_stopped() {
    let mut machine = Machine::new(&[("daemon", DAEMON), ("other", DAEMON)]);
    let cid = machine.vm(local(13), vec![job("daemon")]).await;
    let changed = Job { config: json!({"a": 2}), ..job("other") };

    machine.cpi.configure_vm(&cid, &[changed]).await.unwrap();
    machine.cpi.start_jobs(&cid).await.unwrap();

    machine.until_state(&cid, ProcessState::Running).await;
    let jobs = machine.cpi.root(&cid).join("jobs");
    assert!(!jobs.join("daemon").exists() && jobs.join("other/config.json").exists());
}

#[tokio::test]
async fn a_disk_outlives_its_vms_also_in_a_deep_directory() {
    let deep = ["a-directory-with-a-long-name"; 6].join("/");
    let mut machine = Machine::below(tempfile::tempdir().unwrap(), &deep, &[]);
    machine.cpi.create_disk("disk-1", 1024).await.unwrap();
    for time in [14, 15] {
        let mut order = machine.order(local(time), vec![]);
        order.disk = Some("disk-1".into());
        machine.cpi.create_vm(&order).await.unwrap();
        let row = machine.cpi.root(&order.cid).join("store/row");
        assert_eq!(row.exists(), time == 15);
        std::fs::write(row, "kept").unwrap();
        machine.cpi.delete_vm(&order.cid).await.unwrap();
    }

    machine.cpi.delete_disk("disk-1").await.unwrap();
    machine.cpi.delete_disk("disk-1").await.unwrap();

    let mut order = machine.order(local(14), vec![]);
    order.disk = Some("disk-1".into());
    let error = machine.cpi.create_vm(&order).await.unwrap_err();
    assert!(format!("{error:#}").contains("the disk is not there"), "{error:#}");
}
