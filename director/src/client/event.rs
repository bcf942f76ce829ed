//! PURE. The event lines of a task as an operator reads them. A step whose end follows its beginning stands in one line,
//! as the `bosh` CLI has it.

use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

/// Prints the events of one task in order.
pub(super) struct Events {
    task: u64,
    /// The steps that began and did not end, with the time of their beginning.
    begun: Vec<(String, i64)>,
    /// The step whose line was not finished yet.
    open: Option<String>,
}

impl Events {
    pub(super) fn new(task: u64) -> Self {
        Self { task, begun: Vec::new(), open: None }
    }

    /// The text for one line of the event output; nothing for a line that says nothing new.
    pub(super) fn line(&mut self, line: &str) -> String {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            return self.paragraph(None, line);
        };
        let time = event["time"].as_i64();
        if let Some(error) = event.get("error") {
            return self.paragraph(time, &format!("Error: {}", text(&error["message"])));
        }
        if let Some(kind) = event["type"].as_str() {
            let kind = if kind == "deprecation" { "Deprecation" } else { "Warning" };
            return self.paragraph(time, &format!("{kind}: {}", text(&event["message"])));
        }
        self.step(&event, time.unwrap_or_default())
    }

    /// The end of the output.
    pub(super) fn end(&mut self) -> String {
        if self.open.take().is_some() { "\n".to_owned() } else { String::new() }
    }

    fn step(&mut self, event: &Value, time: i64) -> String {
        let step = name(event);
        match event["state"].as_str() {
            Some("started") => {
                let text = format!("{}{}{step}", self.end(), self.head(Some(time)));
                self.begun.push((step.clone(), time));
                self.open = Some(step);
                text
            }
            Some(state @ ("finished" | "failed")) => {
                let begun = self.begun.iter().position(|(begun, _)| *begun == step);
                let since = begun.map_or(time, |index| self.begun.remove(index).1);
                let duration = duration(time - since);
                let mut text = match self.open.take() {
                    Some(open) if open == step => format!(" ({duration})\n"),
                    other => {
                        self.open = other;
                        format!("{}{}{step} ({duration})\n", self.end(), self.head(Some(time)))
                    }
                };
                if state == "failed" {
                    text += &format!("{:20} L Error: {}\n", "", self::text(&event["data"]["error"]));
                }
                text
            }
            _ => String::new(),
        }
    }

    fn paragraph(&mut self, time: Option<i64>, text: &str) -> String {
        format!("{}{}{text}\n", self.end(), self.head(time))
    }

    fn head(&self, time: Option<i64>) -> String {
        match time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok()) {
            Some(time) => format!("Task {} | {} | ", self.task, clock(time)),
            None => format!("Task {} | ", self.task),
        }
    }
}

/// `Updating instance mysql: mysql/0e9a... (0) (canary)`
fn name(event: &Value) -> String {
    let tags: Vec<&str> = event["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let tags = if tags.is_empty() { String::new() } else { format!(" {}", tags.join(", ")) };
    format!("{}{tags}: {}", text(&event["stage"]), text(&event["task"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn clock(time: OffsetDateTime) -> String {
    time.format(format_description!("[hour]:[minute]:[second]")).unwrap_or_default()
}

/// `00:01:05`
pub(super) fn duration(secs: i64) -> String {
    let secs = secs.max(0);
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[&str]) -> String {
        let mut events = Events::new(17);
        let text: String = lines.iter().map(|line| events.line(line)).collect();
        text + &events.end()
    }

    #[test]
    fn a_step_stands_in_one_line_when_nothing_comes_between() {
        let text = shown(&[
            r#"{"time":1795286560,"stage":"Preparing deployment","tags":[],"task":"Preparing deployment","state":"started"}"#,
            r#"{"time":1795286561,"stage":"Preparing deployment","tags":[],"task":"Preparing deployment","state":"finished"}"#,
            r#"{"time":1795286562,"stage":"Updating instance","tags":["mysql"],"task":"a","state":"started"}"#,
            r#"{"time":1795286562,"stage":"Updating instance","tags":["mysql"],"task":"b","state":"started"}"#,
            r#"{"time":1795286563,"stage":"Updating instance","tags":["mysql"],"task":"b","state":"in_progress"}"#,
            r#"{"time":1795286564,"stage":"Updating instance","tags":["mysql"],"task":"a","state":"finished"}"#,
            r#"{"time":1795286622,"stage":"Updating instance","tags":["mysql"],"task":"b","state":"failed","data":{"error":"no"}}"#,
        ]);
        let expected = "\
Task 17 | 18:42:40 | Preparing deployment: Preparing deployment (00:00:01)
Task 17 | 18:42:42 | Updating instance mysql: a
Task 17 | 18:42:42 | Updating instance mysql: b
Task 17 | 18:42:44 | Updating instance mysql: a (00:00:02)
Task 17 | 18:43:42 | Updating instance mysql: b (00:01:00)
                     L Error: no
";
        assert_eq!(text, expected);
    }

    #[test]
    fn errors_and_warnings_have_lines_of_their_own() {
        let text = shown(&[
            r#"{"time":1795286560,"stage":"s","task":"t","state":"started"}"#,
            r#"{"time":1795286564,"type":"warning","message":"w"}"#,
            r#"{"time":1795286651,"error":{"code":70009,"message":"Errand 'nope' doesn't exist"}}"#,
            "not json",
        ]);
        let expected = "\
Task 17 | 18:42:40 | s: t
Task 17 | 18:42:44 | Warning: w
Task 17 | 18:44:11 | Error: Errand 'nope' doesn't exist
Task 17 | not json
";
        assert_eq!(text, expected);
    }
}
