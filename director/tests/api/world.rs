//! A running `tandem-director` with shell programs as jobs, on addresses and a port of its own. It leaves no process and
//! no directory behind, also when a test fails.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::answer::{Answer, Task, task_id};
use crate::disk::SmallDisk;
use crate::fixture::{PROGRAMS, RELEASE, cloud_config};

pub(crate) const ADMIN: (&str, &str) = ("admin", "a-secret-of-the-test");
/// Only what fails takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A director, its state and its VMs.
pub(crate) struct World {
    /// What the state is on, where a test fills it; it goes before the directory below it.
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) client: reqwest::Client,
    pub(crate) url: String,
    program: Option<Child>,
    /// Held as long as the test runs: nobody else takes these addresses.
    block: (u8, TcpListener),
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_state_on(|_| None).await
    }

    /// With its state on a disk that a test can fill.
    pub(crate) async fn on_small_disk() -> Self {
        Self::with_state_on(|state| Some(SmallDisk::at(state))).await
    }

    async fn with_state_on(disk: impl FnOnce(PathBuf) -> Option<SmallDisk>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("programs");
        std::fs::create_dir_all(&programs).unwrap();
        for (name, body) in PROGRAMS {
            let path = programs.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::write(directory.path().join("release.yml"), RELEASE).unwrap();
        let block = claim_block();
        let url = format!("https://127.96.{}.250:25555", block.0);
        let disk = disk(directory.path().join("state"));
        let mut world = Self { disk, directory, client: reqwest::Client::new(), url, program: None, block };
        world.start().await;
        let answer = world.send_yaml(Method::POST, "/cloud_configs", &cloud_config(world.block.0)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        world
    }

    pub(crate) async fn start(&mut self) {
        let config = self.config("");
        let path = self.path("director.yml");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("director.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-director"));
        command.args(["serve", "--config"]).arg(path).stdout(Stdio::null()).stderr(log);
        self.program = Some(command.spawn().unwrap());
        until("the director has an authority", || self.path("state/tls/ca.pem").exists()).await;
        let ca = std::fs::read(self.path("state/tls/ca.pem")).unwrap();
        let builder = reqwest::Client::builder().tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()]);
        self.client = builder.redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE).build().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.client.get(format!("{}/info", self.url)).send().await.is_err() {
            assert!(Instant::now() < deadline, "the director does not answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What a second director with the same config file, but for one line, says before it gives up.
    pub(crate) fn start_another(&self, line: &str) -> String {
        let path = self.path("another.yml");
        std::fs::write(&path, self.config(line)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-director"));
        let output = command.args(["serve", "--config"]).arg(path).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn config(&self, line: &str) -> String {
        let listen = if line.starts_with("listen") { String::new() } else { self.url.replace("https://", "listen: ") };
        format!(
            "state: state\n{listen}\n{line}\nrelease: release.yml\nprograms: programs\ndocuments: programs\n\
             users: [{{name: {}, password: {}}}]\n",
            ADMIN.0, ADMIN.1
        )
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill().unwrap();
            program.wait().unwrap();
        }
    }

    /// `kill -9`, and a new start.
    pub(crate) async fn crash(&mut self) {
        self.kill();
        self.start().await;
    }

    /// SIGTERM, and wait for the end.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let mut program = self.program.take().expect("it runs");
        let pid = Pid::from_child(&program);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        program.wait().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("director.log")).unwrap_or_default()
    }

    pub(crate) fn address(&self, last: u8) -> String {
        format!("127.96.{}.{last}", self.block.0)
    }

    pub(crate) async fn send(&self, method: Method, path: &str) -> Answer {
        self.finish(self.request(method, path)).await
    }

    pub(crate) async fn send_yaml(&self, method: Method, path: &str, body: &str) -> Answer {
        let request = self.request(method, path).header("content-type", "text/yaml").body(body.to_owned());
        self.finish(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        answer.json()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).basic_auth(ADMIN.0, Some(ADMIN.1))
    }

    pub(crate) async fn finish(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap_or_else(|error| panic!("{error:?}: {}", self.log()));
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    /// Deploy and wait; the task's state, its result and its error.
    pub(crate) async fn deploy(&self, manifest: &str) -> Task {
        self.task(self.send_yaml(Method::POST, "/deployments", manifest).await).await
    }

    pub(crate) async fn run(&self, method: Method, path: &str) -> Task {
        self.task(self.send_yaml(method, path, "").await).await
    }

    pub(crate) async fn errand(&self, name: &str, instances: &str) -> Task {
        self.task(self.begin_errand(name, instances).await).await
    }

    pub(crate) async fn begin_errand(&self, name: &str, instances: &str) -> Answer {
        let path = format!("/deployments/d/errands/{name}/runs");
        let body = format!(r#"{{"instances":{instances},"keep-alive":false,"when-changed":false}}"#);
        self.finish(self.request(Method::POST, &path).header("content-type", "application/json").body(body)).await
    }

    /// Follow a redirect to its task, until the task ends.
    pub(crate) async fn task(&self, answer: Answer) -> Task {
        let id = task_id(&answer);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let task = self.get(&format!("/tasks/{id}")).await;
            let state = task["state"].as_str().unwrap().to_owned();
            if !["queued", "processing", "cancelling"].contains(&state.as_str()) {
                let output =
                    async |kind: &str| self.send(Method::GET, &format!("/tasks/{id}/output?type={kind}")).await.text;
                let (events, result) = (output("event").await, output("result").await);
                return Task {
                    id,
                    state,
                    text: task["result"].as_str().unwrap_or_default().to_owned(),
                    events,
                    result,
                };
            }
            assert!(Instant::now() < deadline, "task {id} does not end: {task}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What `format=full` says of the instances of `d`, by index.
    pub(crate) async fn instances(&self) -> Vec<Value> {
        self.instances_of("d").await
    }

    pub(crate) async fn instances_of(&self, deployment: &str) -> Vec<Value> {
        let task = self.run(Method::GET, &format!("/deployments/{deployment}/instances?format=full")).await;
        assert_eq!(task.state, "done", "{}", task.events);
        let mut lines = task.lines();
        lines.sort_by_key(|line| line["index"].as_u64());
        lines
    }

    /// The same, once they are as they should be.
    pub(crate) async fn instances_when(&self, condition: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let instances = self.instances().await;
            if condition(&instances) {
                return instances;
            }
            assert!(Instant::now() < deadline, "waited in vain: {instances:?}");
        }
    }

    /// The directory of an instance's VM.
    pub(crate) fn vm(&self, instance: &Value) -> PathBuf {
        self.path("state/vms").join(instance["vm_cid"].as_str().expect("it has a VM"))
    }

    /// The processes of the VMs of this director that are errands.
    pub(crate) fn errand_processes(&self) -> Vec<i32> {
        let vms: Vec<String> = file_names(&self.path("state/vms"));
        let is_errand = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment);
            vms.iter().any(|cid| environment.contains(&format!("TANDEM_ERRAND_VM_CID={cid}")))
        };
        processes().into_iter().filter(is_errand).collect()
    }

    /// The processes that work in VMs of this director: the VM's CID, and the arguments.
    pub(crate) fn residents(&self) -> Vec<(String, String)> {
        let vms = self.path("state/vms");
        let resident = |pid: i32| {
            let place = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            let cid = place.strip_prefix(&vms).ok()?.iter().next()?.to_str()?.to_owned();
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            Some((cid, String::from_utf8_lossy(&arguments).replace('\0', " ")))
        };
        processes().into_iter().filter_map(resident).collect()
    }

    /// `kill -9` of everything that a VM is.
    pub(crate) fn kill_vm(&self, instance: &Value) {
        kill_supervisors(&self.vm(instance));
    }

    pub(crate) async fn pause_resurrection(&self, paused: bool) {
        let body = format!(r#"{{"resurrection_paused":{paused}}}"#);
        self.finish(self.request(Method::PUT, "/resurrection").body(body)).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the director's log:\n{}", self.log());
        }
        if let Some(mut program) = self.program.take() {
            let _ = program.kill();
            let _ = program.wait();
        }
        // They have process groups of their own.
        for pid in self.errand_processes().into_iter().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        kill_supervisors(&self.path("state"));
    }
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A third octet for this test alone, also among test runs in other checkouts: the kernel gives the socket to one of them.
fn claim_block() -> (u8, TcpListener) {
    let bind = |block: u8| Some((block, TcpListener::bind((Ipv4Addr::new(127, 96, block, 254), 28199)).ok()?));
    (1..=250).find_map(bind).expect("a free block of addresses")
}

/// The supervisors whose VM is below the directory, with everything in their process groups.
fn kill_supervisors(below: &Path) {
    for pid in processes() {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments);
        if arguments.contains("\0vm\0") && arguments.contains(&*below.to_string_lossy()) {
            let _ = Pid::from_raw(pid).map(|pid| rustix::process::kill_process_group(pid, Signal::KILL));
        }
    }
}

fn processes() -> Vec<i32> {
    file_names(Path::new("/proc")).iter().filter_map(|name| name.parse().ok()).collect()
}

/// None when there is no such directory.
pub(crate) fn file_names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
