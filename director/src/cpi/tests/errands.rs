//! Errands with real processes.

use super::*;

fn errand(name: &str) -> Job {
    Job { program: None, errand: Some(name.into()), ..job(name) }
}

#[tokio::test]
async fn an_errand_gets_its_document_and_its_end_is_reported() {
    let script = r#"#!/bin/sh
echo "$TANDEM_VM_CID $PATH"; cat "$2"; echo oops >&2; exit "$(sed -n 's/.*"exit": \([0-9]*\).*/\1/p' "$2")"
"#;
    let killed = "#!/bin/sh\nkill -9 $$\n";
    let mut machine = Machine::new(&[("errand", script), ("killed", killed), ("daemon", DAEMON)]);
    let seven = Job { config: json!({"exit": 7}), ..errand("errand") };
    let cid = machine.vm(local(10), vec![job("daemon"), seven, errand("killed")]).await;

    let output = machine.cpi.run_errand(&cid, "errand", CancellationToken::new()).await.unwrap();

    let expected = format!("{cid} /usr/sbin:/usr/bin:/sbin:/bin\n{{\n  \"exit\": 7\n}}");
    assert_eq!(output, ErrandOutput { exit_code: 7, stdout: expected, stderr: "oops\n".into() });
    assert_eq!(machine.cpi.run_errand(&cid, "killed", CancellationToken::new()).await.unwrap().exit_code, 137);
    for wrong in ["nope", "daemon"] {
        let error = machine.cpi.run_errand(&cid, wrong, CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains(&format!("no errand named {wrong}")), "{error:#}");
    }
}

#[tokio::test]
async fn jobs_are_told_before_the_stop_what_becomes_of_their_vm() {
    let script = "#!/bin/sh\necho \"$1 $2 $BOSH_VM_NEXT_STATE $BOSH_INSTANCE_NEXT_STATE $BOSH_DEPLOYMENT_NEXT_STATE\"; cat \"$3\"; exit 3\n";
    let mut machine = Machine::new(&[("hook", script), ("errand", script), ("daemon", DAEMON)]);
    let told = Job { pre_stop: vec!["hook".into(), "pre-stop".into()], ..errand("errand") };
    let cid = machine.vm(local(13), vec![job("daemon"), told]).await;

    for (next, name) in [(NextState::Keep, "keep"), (NextState::Delete, "delete")] {
        let outputs = machine.cpi.pre_stop(&cid, next, CancellationToken::new()).await.unwrap();

        let stdout = format!("pre-stop --config {name} keep keep\n{{\n  \"a\": 1\n}}");
        assert_eq!(outputs, [("errand".into(), ErrandOutput { exit_code: 3, stdout, stderr: String::new() })]);
    }
}

#[tokio::test]
async fn a_cancelled_errand_ends_with_everything_that_it_started() {
    let script = "#!/bin/sh\nsleep 300 &\necho $! >data/child\nwait\n";
    let mut machine = Machine::new(&[("slow", script)]);
    let cid = machine.vm(local(11), vec![errand("slow")]).await;
    let cancel = CancellationToken::new();

    let (output, child) = tokio::join!(machine.cpi.run_errand(&cid, "slow", cancel.clone()), async {
        let child = machine.pid(&cid, "child").await;
        cancel.cancel();
        child
    });

    assert_eq!(output.unwrap().exit_code, 143);
    until_gone(child).await;
}

#[tokio::test]
async fn endless_and_garbled_output_of_an_errand_is_cut_and_made_readable() {
    let script = "#!/bin/sh\nprintf 'a\\377b\\n' >&2\nhead -c 1048586 /dev/zero\n";
    let mut machine = Machine::new(&[("loud", script)]);
    let cid = machine.vm(local(12), vec![errand("loud")]).await;

    let output = machine.cpi.run_errand(&cid, "loud", CancellationToken::new()).await.unwrap();

    assert_eq!(output.stderr, "a\u{fffd}b\n");
    assert!(output.stdout.ends_with("\0\n[10 more bytes of output were dropped]\n"));
}
