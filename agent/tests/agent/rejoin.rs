//! A leader that was replaced and comes back: what only it had is saved to a file, and it follows.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};

use agent::api::{Command, Role, Saved};

use crate::family;
use crate::pair::{configured, in_step, run, until_advised};
use crate::vm::Vm;

const TABLE: &str =
    "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY, word VARCHAR(20)); INSERT INTO d.t VALUES (1, 'shared')";

/// A pair whose leader died with a row that was never sent, and whose follower leads and has another one since.
async fn parted() -> (Vm, Vm) {
    let (mut first, second) = configured().await;
    first.sql(TABLE).await;
    in_step(&first, &second).await;
    second.sql("STOP SLAVE IO_THREAD").await;
    first.sql("INSERT INTO d.t VALUES (10, 'only-here')").await;
    first.kill();
    run(&second, Command::MakeLeader).await.unwrap();
    second.sql("INSERT INTO d.t VALUES (20, 'after')").await;
    (first, second)
}

/// Wait until the old leader follows with its successor's data; says what it saved.
async fn returned(first: &Vm, second: &Vm) -> Saved {
    let status = first.until("a follower", |status| status.role == Role::Follower).await;
    in_step(second, first).await;
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t WHERE i IN (1, 20)").await, 2);
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t WHERE i=10").await, 0);
    assert_eq!(status.saved.len(), 1, "{status:?}");
    let saved = status.saved.into_iter().next().unwrap();
    let text = std::fs::read_to_string(&saved.file).unwrap();
    assert!(
        text.contains("### INSERT INTO `d`.`t`") && text.contains("@1=10") && text.contains("'only-here'"),
        "{text}"
    );
    assert!(!text.contains("'shared'") && !text.contains("'after'"), "{text}");
    assert_eq!(saved.of_applications, 1, "{text}");
    assert_eq!(left(first), [".binlog", ".sql"]);
    saved
}

/// The endings of the files that a rescue has left.
fn left(vm: &Vm) -> Vec<String> {
    let entries = std::fs::read_dir(vm.root().join("store/mysql/saved")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut endings: Vec<_> = names.map(|name| name[name.find('.').unwrap()..].to_owned()).collect();
    endings.sort();
    endings
}

#[tokio::test]
async fn what_only_a_replaced_leader_has_is_saved_before_it_follows() {
    let (mut first, second) = parted().await;

    first.recreate();

    let saved = returned(&first, &second).await;
    let (text, events) = (PathBuf::from(&saved.file), Path::new(&saved.file).with_extension("binlog"));
    for file in [&text, &events] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    // The status of either names it, until somebody removes it.
    for vm in [&first, &second] {
        let verdict = vm.client.inspection().await.unwrap().verdict;
        assert!(verdict.healthy && verdict.sentence.contains(&saved.file), "{verdict:?}");
    }

    // The events can be applied to the new leader.
    replay(&text, &second);
    second.until_number("SELECT COUNT(*) FROM d.t WHERE i=10 AND word='only-here'", 1).await;
    in_step(&second, &first).await;
    std::fs::remove_file(&text).unwrap();
    std::fs::remove_file(&events).unwrap();
    let status = first.status().await.unwrap();
    assert!(status.saved.is_empty() && status.led == 0, "{status:?}");
}

/// As the head of the text says.
fn replay(text: &Path, leader: &Vm) {
    let head = std::fs::read_to_string(text).unwrap();
    let line = head.lines().find(|line| line.ends_with("| mariadb") || line.ends_with("| mysql")).unwrap();
    let command = format!("{} --no-defaults --socket=\"$SOCKET\" --user=admin", line.trim_start_matches("-- "));
    let socket = leader.root().join("sys/run/mysql/mysqld.sock");
    let mut shell = Program::new("sh");
    let path = format!("{}:{}", family::mysql_package().join("bin").display(), std::env::var("PATH").unwrap());
    shell
        .args(["-c", &command])
        .env("PATH", path)
        .env("SOCKET", socket)
        .env("MYSQL_PWD", r#"ad'm"i\n"#)
        .stdin(Stdio::null());
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

#[tokio::test]
async fn a_rescue_that_is_cut_off_anywhere_is_done_once_and_whole() {
    let (mut first, second) = parted().await;

    // In the middle of saving, at the latest in the middle of the copy; then in the middle of that.
    for said in ["Saving ", "Copying the data of "] {
        first.recreate();
        first.until_logged(said).await;
        first.kill_agent();
        let saved = first.root().join("store/mysql/saved");
        if said == "Saving " {
            // As a run leaves it that was killed in between.
            std::fs::write(saved.join("20000101T000000Z-epoch-1.binlog"), "half").unwrap();
            std::fs::write(saved.join("20000101T000000Z-epoch-1.sql.new"), "half").unwrap();
        }
    }
    first.recreate();

    let saved = returned(&first, &second).await;
    assert!(!saved.file.contains("20000101"), "{saved:?}");
    assert!(log(&first).contains("is saved already"), "the second run saves again:\n{}", log(&first));
}

#[tokio::test]
async fn configure_leader_follower_says_where_the_transactions_are() {
    let (mut first, second) = parted().await;
    first.recreate();
    first.until_up().await;

    // Whoever comes first does it, the agent or the command.
    let lines = run(&second, Command::ConfigureLeaderFollower).await.unwrap();

    let saved = returned(&first, &second).await;
    let by_command = lines.iter().any(|line| line.contains(&format!("to {}", saved.file)));
    assert!(by_command || log(&first).contains(&saved.file), "{lines:?}\n{}", log(&first));
}

/// A disk of 1 MB in the place of a directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(directory: PathBuf) -> SmallDisk {
        std::fs::create_dir_all(&directory).unwrap();
        let disk = SmallDisk(directory);
        disk.run("mount", &["-t", "tmpfs", "-o", "size=1m", "none"]);
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let done = Program::new(program).args(arguments).arg(&self.0).status().unwrap();
        assert!(done.success(), "{program} failed; this test mounts, so it needs the rights of root");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.run("umount", &["--lazy"]);
    }
}

#[tokio::test]
async fn what_cannot_be_saved_is_kept_and_the_status_says_so() {
    let (mut first, second) = parted().await;
    let full = SmallDisk::at(first.root().join("store/mysql/saved"));

    first.recreate();

    let kept = first.until("the trouble", |status| status.trouble.is_some()).await;
    assert!(kept.read_only && kept.saved.is_empty() && kept.replication.is_none(), "{kept:?}");
    // The new leader may still advise what was right before it led.
    let verdict = until_advised(&second, "Mend that on mysql/id-0; its agent tries again by itself").await;
    for words in
        ["what only this server has could not be saved", "MB left", "give the plan a larger disk", "mysql/id-0"]
    {
        assert!(!verdict.healthy && verdict.sentence.contains(words), "{words}: {verdict:?}");
    }
    assert_eq!(first.number("SELECT COUNT(*) FROM d.t WHERE i=10 AND word='only-here'").await, 1);

    drop(full);
    returned(&first, &second).await;
    first.until("no trouble", |status| status.trouble.is_none()).await;
}

fn log(vm: &Vm) -> String {
    std::fs::read_to_string(vm.agent_log()).unwrap_or_default()
}
