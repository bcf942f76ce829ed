//! The catalogue of hostile requests: malformed, huge, deep, odd.

use serde_json::{Value, json};

use super::program::{SERVICE, SINGLE, request};

/// It is somewhere in most hostile requests, and in no answer.
pub(crate) const MARK: &str = "M4RK3R";
pub(crate) const INSTANCE: &str = "/v2/service_instances/i?accepts_incomplete=true";
const BINDING: &str = "/v2/service_instances/i/service_bindings/b";

pub(crate) struct Hostile {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

fn hostile(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Hostile {
    Hostile { name: name.into(), bytes: bytes.into() }
}

pub(crate) fn all() -> Vec<Hostile> {
    [bodies(), wrong_types(), ids(), queries(), headers(), heads(), long_ones()].into_iter().flatten().collect()
}

fn bodies() -> Vec<Hostile> {
    let put = |name: &str, body: &str| hostile(name, request("PUT", INSTANCE, &[], body));
    let deep = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let with = |member: &str| format!("{{{member}, {}", &provision().to_string()[1..]);
    let mut all = vec![
        put("not JSON", MARK),
        put("JSON that ends early", &format!("{{\"service_id\": \"{MARK}")),
        put("JSON that goes on", &format!("{{}} {MARK}")),
        put("two objects", "{}{}"),
        put("an array by position", &json!([SERVICE, SINGLE, MARK, MARK]).to_string()),
        put("a text", &format!("\"{MARK}\"")),
        put("a number", "4711"),
        put("null", "null"),
        put("white space", "  \n "),
        put("a byte order mark", &format!("\u{feff}{}", provision())),
        put("single quotes", &format!("{{'service_id': '{MARK}'}}")),
        put("a trailing comma", &format!("{{\"service_id\": \"{MARK}\",}}")),
        put("a comment", &format!("{{/* {MARK} */}}")),
        put("NaN", &with("\"context\": {\"a\": NaN}")),
        put("a number without end", &with(&format!("\"context\": {{\"a\": 1{}}}", "0".repeat(5000)))),
        put("an exponent without end", &with("\"context\": {\"a\": 1e99999}")),
        put("half a surrogate", &with("\"context\": {\"a\": \"\\ud800\"}")),
        put("a NUL", &with(&format!("\"context\": {{\"{MARK}\": \"\\u0000\"}}"))),
        put("a control character", &with("\"context\": {\"a\": \"\u{1}\"}")),
        put("members of the same name", &with(&format!("\"service_id\": \"{MARK}\""))),
        put("unknown members of the same name", &with(&format!("\"{MARK}\": 1, \"{MARK}\": 2"))),
        put(
            "inner members of the same name",
            &with(&format!("\"context\": {{\"a\": [{{\"{MARK}\": 1, \"{MARK}\": 2}}]}}")),
        ),
        put("deep arrays", &deep("[", "]", 100_000)),
        put("deep objects", &deep(&format!("{{\"{MARK}\":"), "}", 10_000)),
        put("a deep context", &with(&format!("\"context\": {{\"{MARK}\": {}}}", deep("[", "]", 1000)))),
        put("a deep unknown member", &with(&format!("\"{MARK}\": {}", deep("{\"a\":", "}", 1000)))),
        put("arrays that only open", &"[".repeat(1_000_000)),
        put("a version that is a number", &with("\"maintenance_info\": {\"version\": 1}")),
        put("SQL", &with_text("'; DROP TABLE instances; --")),
        put("a shell", &with_text("$(touch /tmp/owned)`id`;|&")),
        put("a path", &with_text("../../../../etc/passwd")),
        put("a template", &with_text("{{7*7}}${7*7}<%= 7*7 %>%s%n")),
        put("many unknown parameters", &many_parameters()),
        put("a parameter with a long name", &odd_parameter(&MARK.repeat(1000))),
        put("a parameter with an odd name", &odd_parameter(&format!("<script>{MARK}\n"))),
    ];
    let bytes = [&b"{\"service_id\": \"\xff\xfe"[..], MARK.as_bytes(), b"\"}"].concat();
    let head = request("PUT", INSTANCE, &[&format!("Content-Length: {}", bytes.len())], "");
    all.push(hostile("bytes that are not UTF-8", [head.as_bytes(), &bytes].concat()));
    all
}

fn provision() -> Value {
    json!({"service_id": SERVICE, "plan_id": SINGLE, "organization_guid": "o", "space_guid": "s"})
}

/// As the id of a service, of which there is none.
fn with_text(text: &str) -> String {
    let mut body = provision();
    body["service_id"] = json!(format!("{text}{MARK}"));
    body.to_string()
}

fn many_parameters() -> String {
    let mut body = provision();
    body["parameters"] = (0..10_000).map(|at| (format!("p{at}"), json!(MARK))).collect();
    body.to_string()
}

/// Names that nobody would give a parameter are not repeated.
fn odd_parameter(name: &str) -> String {
    let mut body = provision();
    body["parameters"] = json!({name: 1});
    body.to_string()
}

/// Every member of both bodies, with every type that it cannot have.
fn wrong_types() -> Vec<Hostile> {
    let values = [json!(null), json!(true), json!(4711), json!(-1.5), json!([MARK]), json!([[MARK, 1]])];
    let (text, object) = (json!(MARK), json!({MARK: 1}));
    let wrong_texts = values.iter().chain([&object]);
    // `null` is as good as absent.
    let wrong_objects = values[1..].iter().chain([&text]);
    let mut all = Vec::new();
    let mut add = |path: &str, body: &Value, name: &str, value: &Value| {
        let mut body = body.clone();
        body[name] = value.clone();
        all.push(hostile(format!("{path} with {name}: {value}"), request("PUT", path, &[], &body.to_string())));
    };
    for value in wrong_texts {
        for name in ["service_id", "plan_id", "organization_guid", "space_guid"] {
            add(INSTANCE, &provision(), name, value);
        }
        for name in ["service_id", "plan_id"] {
            add(BINDING, &json!({"service_id": SERVICE, "plan_id": SINGLE}), name, value);
        }
    }
    for value in wrong_objects {
        for name in ["context", "parameters", "maintenance_info"] {
            add(INSTANCE, &provision(), name, value);
        }
        for name in ["context", "parameters", "bind_resource"] {
            add(BINDING, &json!({"service_id": SERVICE, "plan_id": SINGLE}), name, value);
        }
    }
    all
}

fn ids() -> Vec<Hostile> {
    let odd = [
        "a%2Fb",
        "a%00b",
        "%2e%2e%2fetc%2fpasswd",
        "%20",
        "%C3%A4",
        "%FF%FE",
        "a%0d%0aSet-Cookie:%20x",
        "a;rm%20-rf",
        "'%20OR%201=1",
        "$(id)",
        "%60id%60",
        "a%25%32%46",
        "*",
        "%",
        "%zz",
        "a%5cb",
        "%7b%7b7*7%7d%7d",
        "a+b",
        "<script>",
    ];
    let body = provision().to_string();
    let long = "x".repeat(51);
    let mut all = Vec::new();
    for id in odd.into_iter().chain([long.as_str()]) {
        let id = format!("{id}{MARK}");
        let instance = format!("/v2/service_instances/{id}?accepts_incomplete=true");
        all.push(hostile(format!("provision {id}"), request("PUT", &instance, &[], &body)));
        let operation = format!("/v2/service_instances/{id}/last_operation");
        all.push(hostile(format!("poll {id}"), request("GET", &operation, &[], "")));
        let binding = format!("/v2/service_instances/i/service_bindings/{id}?service_id={SERVICE}&plan_id={SINGLE}");
        all.push(hostile(format!("unbind {id}"), request("DELETE", &binding, &[], "")));
    }
    for path in [
        "/",
        "//",
        "/v2",
        "/v2/",
        "/v2/catalog/",
        "/v2/service_instances",
        "/v2/service_instances//",
        "/v2/../v2/catalog",
    ] {
        all.push(hostile(format!("path {path}"), request("GET", path, &[], "")));
    }
    all.push(hostile("no such resource", request("GET", &format!("/{MARK}"), &[], "")));
    all
}

fn queries() -> Vec<Hostile> {
    let body = provision().to_string();
    let put = |query: &str| {
        let path = format!("/v2/service_instances/i?{query}");
        hostile(format!("provision?{query}"), request("PUT", &path, &[], &body))
    };
    let delete = |query: &str| {
        let path = format!("/v2/service_instances/i?{query}");
        hostile(format!("deprovision?{query}"), request("DELETE", &path, &[], ""))
    };
    vec![
        put(""),
        put("accepts_incomplete="),
        put("accepts_incomplete=TRUE"),
        put(&format!("accepts_incomplete={MARK}")),
        put("accepts_incomplete=true&accepts_incomplete=true"),
        put("accepts_incomplete=true&accepts_incomplete=false"),
        put("accepts_incomplete=%00"),
        put("accepts%5Fincomplete=%FF"),
        put("accepts_incomplete[]=true"),
        delete("accepts_incomplete=true"),
        delete(&format!("accepts_incomplete=true&service_id={MARK}")),
        delete("accepts_incomplete=true&service_id=&plan_id="),
        delete(&format!("accepts_incomplete=true&service_id={SERVICE}&plan_id={SINGLE}&plan_id={MARK}")),
        delete("&&&&====%%%"),
    ]
}

fn headers() -> Vec<Hostile> {
    let get = |name: &str, text: String| hostile(name, text);
    let catalog = request("GET", "/v2/catalog", &[], "");
    let version = |value: &str| catalog.replace("Version: 2.17", &format!("Version: {value}"));
    let authorization = |value: &str| {
        let (before, rest) = catalog.split_once("Authorization: ").unwrap();
        let (_, after) = rest.split_once("\r\n").unwrap();
        format!("{before}Authorization: {value}\r\n{after}")
    };
    let put = |name: &str, header: &str| {
        let text = request("PUT", INSTANCE, &[header], "");
        hostile(name, format!("{}{}", text.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n"), "{}"))
    };
    vec![
        get("no version", catalog.replace("X-Broker-API-Version: 2.17\r\n", "")),
        get("version 1.0", version("1.0")),
        get("version 3.0", version("3.0")),
        get("version of words", version(MARK)),
        get("version without end", version(&format!("2.{}x", "9".repeat(5000)))),
        get("version empty", version("")),
        get("no credentials", authorization("")),
        get("wrong credentials", authorization("Basic TTRSSzNSOk00UkszUg==")),
        get("credentials that are not base64", authorization(&format!("Basic {MARK}!!!"))),
        get("credentials without end", authorization(&format!("Basic {}", "A".repeat(30_000)))),
        get("a bearer", authorization(&format!("Bearer {MARK}"))),
        put("content type text", "Content-Type: text/plain"),
        put("content type of words", &format!("Content-Type: {MARK}")),
        put("content type of a form", "Content-Type: application/x-www-form-urlencoded"),
        put("a bad identity", &format!("X-Broker-API-Originating-Identity: {MARK}")),
        put("an identity that is no object", "X-Broker-API-Originating-Identity: cloudfoundry W10="),
        get("a method that is not known", request("BREW", "/v2/catalog", &[], "")),
        get("a method that is not served", request("POST", "/v2/catalog", &[], "{}")),
        get("trace", request("TRACE", "/v2/catalog", &[], "")),
    ]
}

/// These are refused before any handler is asked.
fn heads() -> Vec<Hostile> {
    let many: String = (0..200).map(|at| format!("X-{MARK}-{at}: 1\r\n")).collect();
    vec![
        hostile("not HTTP", format!("{MARK} {MARK} {MARK}\r\n\r\n")),
        hostile("another version of HTTP", format!("GET /{MARK} HTTP/9.9\r\n\r\n")),
        hostile("a request line without a path", "GET\r\n\r\n"),
        hostile("a header without a colon", format!("GET / HTTP/1.1\r\n{MARK}\r\n\r\n")),
        hostile("a header with a NUL", format!("GET / HTTP/1.1\r\nHost: a\0{MARK}\r\n\r\n")),
        hostile("a negative length", format!("PUT /{MARK} HTTP/1.1\r\nContent-Length: -1\r\n\r\n")),
        hostile("a length of words", format!("PUT / HTTP/1.1\r\nContent-Length: {MARK}\r\n\r\n")),
        hostile("two lengths", "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
        hostile("many headers", format!("GET / HTTP/1.1\r\n{many}\r\n")),
        hostile("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 500], b"\r\n\r\n"].concat()),
        hostile("a chunk of words", {
            let text = request("PUT", INSTANCE, &["Transfer-Encoding: chunked"], "");
            format!("{text}{MARK}\r\n{{}}\r\n0\r\n\r\n")
        }),
    ]
}

fn long_ones() -> Vec<Hostile> {
    let long = MARK.repeat(20 * 1024 * 1024 / MARK.len());
    let text = format!("{{\"context\": {{\"a\": \"{long}\"}}}}");
    let chunked = |body: &str| {
        let head = request("PUT", INSTANCE, &["Transfer-Encoding: chunked"], "");
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let stranger = |text: String| text.replace("Authorization: Basic", "Authorization: Basic A");
    vec![
        hostile("a body of 20 MB", request("PUT", INSTANCE, &[], &text)),
        hostile("a body of 20 MB in pieces", chunked(&text)),
        hostile("a body of 20 MB where none belongs", request("POST", &format!("/{MARK}"), &[], &text)),
        hostile("a body of 20 MB from a stranger", stranger(request("PUT", INSTANCE, &[], &text))),
        hostile("a body that is announced only", {
            request("PUT", INSTANCE, &["Expect: 100-continue", "Content-Length: 99999999999"], "")
        }),
        hostile("a URL of 60 KB", request("GET", &format!("/{}", "x".repeat(60_000)), &[], "")),
        hostile("a URL of 1 MB", request("GET", &format!("/{}", "x".repeat(1_000_000)), &[], "")),
        hostile("a header of 1 MB", request("GET", "/", &[&format!("X-Long: {}", "x".repeat(1_000_000))], "")),
        hostile("an identity of 50 KB", {
            let header = format!("X-Broker-API-Originating-Identity: cloudfoundry {}", "A".repeat(50_000));
            request("GET", "/", &[&header], "")
        }),
    ]
}
