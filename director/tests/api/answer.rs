//! What the director answered: an HTTP answer, and a task that has ended.

use reqwest::StatusCode;
use serde_json::Value;

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) state: String,
    /// The task's own `result`.
    pub(crate) text: String,
    pub(crate) events: String,
    pub(crate) result: String,
}

impl Task {
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.result.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The code and the message of the last event.
    pub(crate) fn error(&self) -> (u64, String) {
        let last: Value = serde_json::from_str(self.events.lines().last().expect("events")).unwrap();
        (last["error"]["code"].as_u64().expect("a code"), last["error"]["message"].as_str().unwrap().to_owned())
    }

    /// The steps that were begun, as `STAGE: TASK`.
    pub(crate) fn stages(&self) -> Vec<String> {
        let events = self.events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        events.filter(|event| event["state"] == "started").map(|event| text(&event, "stage")).collect()
    }
}

pub(crate) fn task_id(answer: &Answer) -> u64 {
    assert_eq!(answer.status, StatusCode::FOUND, "{}", answer.text);
    let location = answer.headers["location"].to_str().unwrap();
    location.rsplit('/').next().unwrap().parse().unwrap()
}
