//! `If-None-Match`: does the client have this answer already? (RFC 9110, sections 8.8.3 and 13.1.2.)

use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, HeaderValue};

/// The comparison is the weak one: `W/"x"` is `"x"`.
pub(super) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().any(|line| matches(line.as_bytes(), etag.as_bytes()))
}

/// A line is `*`, or a list. A tag may hold commas, so the list is taken apart at its quotes.
fn matches(line: &[u8], etag: &[u8]) -> bool {
    if line.trim_ascii() == b"*" {
        return true;
    }
    let mut rest = line;
    loop {
        let begin = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','));
        let Some(tag) = begin.map(|at| &rest[at..]) else { return false };
        let opaque = tag.strip_prefix(b"W/").unwrap_or(tag);
        let Some(inner) = opaque.strip_prefix(b"\"") else { return false };
        let Some(length) = inner.iter().position(|byte| *byte == b'"') else { return false };
        if opaque[..length + 2] == *etag {
            return true;
        }
        rest = &inner[length + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_names_the_tag_has_the_answer() {
        let is_known = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(IF_NONE_MATCH, HeaderValue::from_str(line).unwrap());
            }
            super::is_known(&headers, &HeaderValue::from_static("\"a\""))
        };
        for known in ["\"a\"", "W/\"a\"", "*", " * ", "\"b\", \"a\"", "\"b,c\" , W/\"a\"", ",, \"a\",", "\"\",\"a\""] {
            assert!(is_known(&[known]), "{known}");
        }
        for unknown in ["", "a", "\"A\"", "\"b\"", "\"a", "w/\"a\"", "\"b, \"a\"", "\"aa\"", "W/", "**"] {
            assert!(!is_known(&[unknown]), "{unknown}");
        }
        assert!(is_known(&["\"b\"", "\"a\""]) && !is_known(&[]));
    }
}
