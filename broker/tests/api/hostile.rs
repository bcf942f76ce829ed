//! Requests that no honest platform sends. Each is refused with a 4xx in JSON, or cut where it is never complete; nothing
//! breaks, hangs, repeats what was sent, or tells a secret.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::program::{Answer, Broker, SECRETS, read_answer, request};
use super::requests::{self, Hostile, INSTANCE, MARK};

/// How long a client of these tests may take for a head or a body.
const TIMEOUT: Duration = Duration::from_secs(1);

fn broker() -> Broker {
    Broker::start_with(|properties| properties["clients"] = json!({"timeout_in_seconds": TIMEOUT.as_secs()}))
}

#[test]
fn every_hostile_request_is_refused_in_json() {
    let broker = broker();
    let all = requests::all();
    assert!(all.len() >= 100, "there are only {}", all.len());

    for Hostile { name, bytes } in &all {
        let answer = broker.send(bytes).unwrap_or_else(|| panic!("{name}: no answer"));
        check_refusal(name, &answer);
    }

    check_health(&broker);
}

#[test]
fn a_request_that_never_ends_is_cut() {
    let broker = broker();
    let whole = request("PUT", INSTANCE, &[], &format!("{{\"{MARK}\": \"{}\"}}", "x".repeat(500)));
    let body_at = whole.find("\r\n\r\n").unwrap() + 4;
    thread::scope(|scope| {
        scope.spawn(|| assert!(drip(&broker, &whole.as_bytes()[..body_at]).is_none(), "a slow head"));
        scope.spawn(|| assert!(drip(&broker, &[]).is_none(), "nothing at all"));
        scope.spawn(|| {
            let mut stream = broker.connect();
            stream.write_all(&whole.as_bytes()[..body_at]).unwrap();
            let answer = drip_on(stream, &whole.as_bytes()[body_at..]).expect("a slow body has an answer");
            assert_eq!(answer.status, 408);
            check_refusal("slow body", &answer);
        });
        scope.spawn(|| {
            let chunked = whole.replace("Content-Length: 517", "Transfer-Encoding: chunked");
            let mut stream = broker.connect();
            stream.write_all(&chunked.as_bytes()[..chunked.find("\r\n\r\n").unwrap() + 4]).unwrap();
            let answer = drip_on(stream, "1\r\n \r\n".repeat(100).as_bytes()).expect("slow pieces have an answer");
            check_refusal("slow pieces", &answer);
        });
    });
    check_health(&broker);
}

#[test]
fn a_client_that_has_said_all_may_close_its_half() {
    let broker = broker();
    let whole = request("PUT", INSTANCE, &[], "{}");
    for (name, end) in [("whole", whole.len()), ("half a body", whole.len() - 1)] {
        let mut stream = broker.connect();
        stream.write_all(&whole.as_bytes()[..end]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        check_refusal(name, &read_answer(&mut stream).unwrap_or_else(|| panic!("{name}: no answer")));
    }
    let mut stream = broker.connect();
    stream.write_all(&whole.as_bytes()[..40]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(read_answer(&mut stream).is_none(), "half a head");
    check_health(&broker);
}

#[test]
fn requests_in_a_row_are_answered_in_a_row() {
    let broker = broker();
    let open = |text: String| text.replace("Connection: close\r\n", "");
    let bad = open(request("PUT", INSTANCE, &[], &format!("[\"{MARK}\"]")));
    let row = bad.repeat(20) + &open(request("GET", "/v2/catalog", &[], "")) + &request("DELETE", "/nowhere", &[], "");
    let mut stream = broker.connect();
    stream.write_all(row.as_bytes()).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses[..20], ["400"; 20]);
    assert_eq!(statuses[20..], ["200", "404"]);
    assert!(!text.contains(MARK), "{text}");
    // What follows a request that is not one is not read.
    let smuggled = format!("GET /{MARK} HTTP/1.1\r\nbroken\r\n\r\n{}", request("GET", "/v2/catalog", &[], ""));
    let answer = broker.send(smuggled.as_bytes()).unwrap();
    check_refusal("a good request after a broken one", &answer);
    check_health(&broker);
}

fn check_refusal(name: &str, answer: &Answer) {
    assert!((400..500).contains(&answer.status), "{name}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{name}: {answer:?}");
    let problem = answer.json();
    let has = |word: &str| problem[word].as_str().is_some_and(|text| !text.is_empty());
    assert!(problem.is_object() && (has("error") || has("description")), "{name}: {answer:?}");
    assert!(!answer.body.contains(MARK) && answer.body.len() < 1000, "{name}: {answer:?}");
    for secret in SECRETS {
        assert!(!answer.body.contains(secret), "{name}: {answer:?}");
    }
}

/// It still serves, nothing was recorded, and the log is clean.
fn check_health(broker: &Broker) {
    assert_eq!(broker.call("GET", "/v2/catalog", "").status, 200);
    assert_eq!(broker.call("GET", "/v2/service_instances/i/last_operation", "").status, 404);
    let log = broker.log();
    for word in SECRETS.into_iter().chain(["panic", "request failed", "YnJva2VyOn"]) {
        let line = log.lines().find(|line| line.contains(word));
        assert_eq!(line, None, "`{word}` is in the log");
    }
}

/// Send a byte at a time, far too slowly, until the broker has had enough.
fn drip(broker: &Broker, bytes: &[u8]) -> Option<Answer> {
    drip_on(broker.connect(), bytes)
}

fn drip_on(mut stream: std::net::TcpStream, bytes: &[u8]) -> Option<Answer> {
    let begin = Instant::now();
    let mut writer = stream.try_clone().unwrap();
    let bytes = bytes.to_vec();
    let dripping = thread::spawn(move || {
        for byte in bytes {
            if writer.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(TIMEOUT / 20);
        }
    });
    let answer = read_answer(&mut stream);
    assert!(begin.elapsed() < 10 * TIMEOUT, "it is cut after {:?} only", begin.elapsed());
    drop(stream);
    dripping.join().unwrap();
    answer
}
