//! Limits on clients, what the log says about them, and the end.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::json;

use super::program::{Broker, SERVICE, SINGLE, read_answer, request};

#[test]
fn no_more_clients_are_connected_than_there_are_places() {
    let broker = Broker::start_with(|properties| properties["clients"] = json!({"max_connections": 3}));
    let catalog = request("GET", "/v2/catalog", &[], "").replace("Connection: close\r\n", "");
    let mut clients: Vec<_> = (0..3).map(|_| broker.connect()).collect();
    for client in &mut clients {
        client.write_all(catalog.as_bytes()).unwrap();
        assert!(client.read(&mut [0; 100]).unwrap() > 0);
    }

    assert!(broker.send(catalog.as_bytes()).is_none(), "a fourth client is served");

    clients.pop();
    let deadline = Instant::now() + Duration::from_secs(10);
    while broker.send(request("GET", "/v2/catalog", &[], "").as_bytes()).is_none() {
        assert!(Instant::now() < deadline, "a place is not free again");
    }
}

#[test]
fn the_log_says_which_request_it_was_and_for_whom() {
    let broker = Broker::start();
    let user = STANDARD.encode(r#"{"user_id": "683ea748-3092\n\u001b[31mERROR"}"#);
    let headers = [
        "X-Broker-API-Request-Identity: request-4711",
        &format!("X-Broker-API-Originating-Identity: cloudfoundry {user}"),
    ];
    let body = json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"});
    let path = "/v2/service_instances/i?accepts_incomplete=true";

    let answer = broker.send(request("PUT", path, &headers, &body.to_string()).as_bytes()).unwrap();

    assert_eq!((answer.status, answer.header("x-broker-api-request-identity")), (202, Some("request-4711")));
    let line = broker.wait_for_line("provision is accepted");
    assert!(line.contains("request-4711") && line.contains("cloudfoundry/683ea748-3092??[31mERROR"), "{line}");
}

#[test]
fn a_missing_version_is_a_412_where_the_operator_says_so() {
    let broker = Broker::start_with(|properties| properties["clients"] = json!({"missing_version_status": 412}));
    let catalog = request("GET", "/v2/catalog", &[], "").replace("X-Broker-API-Version: 2.17\r\n", "");
    assert_eq!(broker.send(catalog.as_bytes()).unwrap().status, 412);
}

#[test]
fn a_catalog_that_the_platform_has_is_not_sent_again() {
    let broker = Broker::start();
    let first = broker.call("GET", "/v2/catalog", "");
    let tag = first.header("etag").unwrap();

    let again =
        broker.send(request("GET", "/v2/catalog", &[&format!("If-None-Match: W/{tag}")], "").as_bytes()).unwrap();
    assert_eq!((again.status, again.header("etag"), again.body.as_str()), (304, Some(tag), ""));

    let other = broker.send(request("GET", "/v2/catalog", &["If-None-Match: \"other\""], "").as_bytes()).unwrap();
    assert_eq!((other.status, other.body), (200, first.body));
}

#[test]
fn sigterm_ends_it_at_once_but_not_in_the_middle_of_a_request() {
    let mut broker = Broker::start();
    let mut fresh = broker.connect();
    let mut idle = broker.connect();
    let catalog = request("GET", "/v2/catalog", &[], "").replace("Connection: close\r\n", "");
    idle.write_all(catalog.as_bytes()).unwrap();
    assert!(idle.read(&mut [0; 100]).unwrap() > 0);
    let body =
        json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"}).to_string();
    let put = request("PUT", "/v2/service_instances/i?accepts_incomplete=true", &[], &body);
    let (first, rest) = put.split_at(put.len() - 10);
    let mut busy = broker.connect();
    busy.write_all(first.as_bytes()).unwrap();
    // A later request is answered, so that one was seen, too.
    assert_eq!(broker.call("GET", "/v2/catalog", "").status, 200);
    let begin = Instant::now();

    broker.signal(Signal::TERM);
    broker.wait_for_line("mysql-broker drains");
    busy.write_all(rest.as_bytes()).unwrap();

    assert_eq!(read_answer(&mut busy).expect("an answer").status, 202);
    broker.wait_for_end();
    assert!(begin.elapsed() < Duration::from_secs(5), "the end took {:?}", begin.elapsed());
    assert!(read_answer(&mut fresh).is_none());
}
