//! PURE. Tables as the `bosh` CLI prints them: columns two spaces apart, `-` for nothing, and how many rows there are.

use serde_json::Value;

/// Rows below headings, and `3 instances` below them.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>], count: usize, noun: &str) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        padded.collect::<String>().trim_end().to_owned() + "\n"
    };
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{body}\n{count} {noun}\n", line(&headings))
}

/// One thing, its properties below each other; a value of many lines stays in its column.
pub(super) fn record(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let indent = format!("\n{:width$}  ", "");
    pairs.iter().map(|(name, value)| format!("{name:width$}  {}\n", value.trim_end().replace('\n', &indent))).collect()
}

/// A cell: lists joined, nothing as `-`.
pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    };
    text_cell(text)
}

pub(super) fn text_cell(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["mysql/0".to_owned(), "z1".to_owned()], vec!["b/1".to_owned(), "-".to_owned()]];
        assert_eq!(
            table(&["Instance", "AZ"], &rows, 2, "instances"),
            "Instance  AZ\nmysql/0   z1\nb/1       -\n\n2 instances\n"
        );
    }

    #[test]
    fn a_value_of_many_lines_stays_in_its_column() {
        let pairs = [("Exit Code", "0".to_owned()), ("Stdout", "one\ntwo\n".to_owned())];
        assert_eq!(record(&pairs), "Exit Code  0\nStdout     one\n           two\n");
    }

    #[test]
    fn cells_show_nothing_as_a_dash() {
        let cases =
            [(json!(null), "-"), (json!([]), "-"), (json!(["a", "b"]), "a,b"), (json!(7), "7"), (json!(""), "-")];
        for (value, expected) in cases {
            assert_eq!(cell(&value), expected);
        }
    }
}
