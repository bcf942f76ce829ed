//! Every error names what was wrong and what would be right, and leaves nothing half-made.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::director::Output;
use tests::stack::{self, Wiring};
use tests::{Stack, processes};
use tokio::process::Command;
use tokio::sync::OnceCell;

static STACK: OnceCell<Stack> = OnceCell::const_new();
/// Time for a program to see that its configuration is bad.
const LIMIT: Duration = Duration::from_secs(10);

async fn stack() -> Result<&'static Stack> {
    STACK.get_or_try_init(|| Stack::start(Wiring::Direct)).await
}

/// Run a program that is expected to refuse its configuration.
async fn refusal(program: &str, arguments: &[&str], config: &Path) -> Result<String> {
    let command = Command::new(stack::programs()?.join(program))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, command).await.with_context(|| format!("{program} runs on"))??;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!output.status.success(), "{program} accepted {}: {text}", config.display());
    ensure!(!text.contains("panicked"), "{program} fell over: {text}");
    Ok(text)
}

fn has(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "`{word}` is not in: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_director_names_what_is_wrong_in_its_configuration() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("director.yml");
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let config = |listen: &str, more: &str| {
        format!(
            "state: {}\nlisten: {listen}\nrelease: {}\nprograms: {}\ndocuments: {}\nusers: [{{name: a, password: b}}]\n{more}",
            directory.path().join("state").display(),
            stack::documents().join("release.yml").display(),
            stack::programs().unwrap_or_default().display(),
            stack::documents().display(),
        )
    };
    let cases = [
        (config("127.0.0.1:0", "resurection: true"), vec!["resurection"]),
        (config("nowhere", ""), vec!["listen"]),
        (config(&taken.local_addr()?.to_string(), ""), vec!["127.0.0.1", "in use"]),
        ("state: [".to_owned(), vec!["director.yml"]),
        ("listen: 127.0.0.1:0".to_owned(), vec!["state"]),
    ];

    has(&refusal("tandem-director", &["serve"], &directory.path().join("missing.yml")).await?, &["missing.yml"])?;
    for (text, words) in cases {
        std::fs::write(&path, &text)?;
        has(&refusal("tandem-director", &["serve"], &path).await?, &words).with_context(|| text.clone())?;
    }

    ensure!(processes::of_stack(directory.path()).is_empty(), "a refused director still runs");
    Ok(())
}

#[tokio::test]
async fn the_programs_of_a_vm_name_what_is_wrong_in_their_configuration() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("config.json");
    let spec = r#""spec":{"deployment":"d","name":"mysql","id":"i","index":0,"az":"z1","ip":"127.0.0.1"}"#;

    for program in ["mysql-agent", "mysql-broker", "inspect", "make-leader", "configure-leader-follower"] {
        has(&refusal(program, &[], &directory.path().join("missing.json")).await?, &["missing.json"])?;
        std::fs::write(&path, "{")?;
        has(&refusal(program, &[], &path).await?, &["config.json"])?;
        std::fs::write(&path, format!(r#"{{{spec},"properties":{{"colour":"red"}}}}"#))?;
        has(&refusal(program, &[], &path).await?, &["unknown field `colour`"])?;
        std::fs::write(&path, "{}")?;
        has(&refusal(program, &[], &path).await?, &["missing field `spec`"])?;
    }
    Ok(())
}

async fn deploy(stack: &Stack, name: &str, vm_type: &str) -> Result<Output> {
    let manifest = format!(
        "name: {name}
releases: [{{name: tandem, version: 0.1.0}}]
stemcells: [{{alias: default, os: ubuntu-jammy, version: \"1.930\"}}]
update: {{canaries: 1, max_in_flight: 1, canary_watch_time: 100-60000, update_watch_time: 100-60000}}
instance_groups:
- name: mysql
  instances: 1
  azs: [z2]
  vm_type: {vm_type}
  persistent_disk_type: 1GB
  stemcell: default
  networks: [{{name: default}}]
  jobs:
  - name: mysql-agent
    release: tandem
    properties:
      topology: single-node
      admin_password: ((admin_password))
      tls:
        ca: ((tls.ca))
        certificate: ((tls.certificate))
        private_key: ((tls.private_key))
variables:
- {{name: admin_password, type: password}}
- name: tls
  type: certificate
  options: {{ca: /tandem/agent_ca, common_name: {name}, alternative_names: [{name}]}}
"
    );
    let path = stack.directory().join(format!("{name}.yml"));
    std::fs::write(&path, manifest)?;
    let path = path.display().to_string();
    stack.director.cli(&["-d", name, "deploy", &path]).await
}

/// Nothing of the deployment runs, and deleting it leaves no trace of it.
async fn nothing_is_left(stack: &Stack, name: &str) -> Result<()> {
    ensure!(stack.director.job_config(name, "mysql-agent").is_err(), "a VM of {name} is left");
    stack.director.cli(&["-d", name, "delete-deployment", "--force"]).await?.succeeded()?;
    ensure!(!stack.director.deployments().await?.iter().any(|deployment| deployment == name), "{name} is left");
    Ok(())
}

#[tokio::test]
async fn a_manifest_with_an_unknown_vm_type_is_refused_by_name() -> Result<()> {
    let stack = stack().await?;

    let output = deploy(stack, "too-large", "gigantic").await?;

    let text = output.clone().stdout + &output.stderr;
    ensure!(output.code == Some(1), "exit code {:?}: {text}", output.code);
    has(&text, &["gigantic", "micro", "small", "medium"])?;
    let tasks = stack.director.get("/tasks?deployment=too-large&limit=1").await?;
    let events = format!("/tasks/{}/output?type=event", tasks[0]["id"]);
    has(&stack.director.request(reqwest::Method::GET, &events, None).await?.text, &["\"code\":140004"])?;
    nothing_is_left(stack, "too-large").await
}

#[tokio::test]
async fn a_taken_port_is_named_and_nothing_half_made_is_left() -> Result<()> {
    let stack = stack().await?;
    let addresses = (2..=20).map(|host| format!("127.{}.2.{host}:3306", stack.block));
    let taken: Vec<TcpListener> = addresses.map(TcpListener::bind).collect::<Result<_, _>>()?;

    let output = deploy(stack, "no-port", "small").await?;

    let text = output.clone().stdout + &output.stderr;
    ensure!(output.code == Some(1), "exit code {:?}: {text}", output.code);
    has(&text, &[&format!("127.{}.2.", stack.block), "3306"])?;
    nothing_is_left(stack, "no-port").await?;
    drop(taken);
    deploy(stack, "no-port", "small").await?.succeeded()?;
    stack.director.cli(&["-d", "no-port", "delete-deployment"]).await?.succeeded()?;
    Ok(())
}

#[tokio::test]
async fn a_client_subcommand_says_what_does_not_exist() -> Result<()> {
    let director = &stack().await?.director;

    let no_deployment = director.cli(&["-d", "nope", "instances"]).await?;
    let no_instance = director.cli(&["-d", "mysql-broker", "restart", "broker/7"]).await?;
    let no_task = director.cli(&["task", "999999"]).await?;

    for (output, words) in [(no_deployment, "nope"), (no_instance, "broker/7"), (no_task, "999999")] {
        let text = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.code == Some(1), "{}: exit code {:?}: {text}", output.line, output.code);
        has(&text, &[words])?;
    }
    Ok(())
}
