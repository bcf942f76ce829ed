//! `maintenance_info` of a plan: which version of its manifest and software an instance has.

use serde::Deserialize;

/// What an upgrade brings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MaintenanceInfo {
    pub(crate) version: Version,
    /// A sentence for the user.
    pub(crate) description: Option<String>,
}

/// A semantic version, as the specification demands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Version(String);

impl Version {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Version, String> {
        if is_semantic(&text) {
            return Ok(Version(text));
        }
        Err(format!("`version` is `{text}`, but must be a semantic version such as \"1.2.3\" or \"1.2.3-beta.1\""))
    }
}

/// `MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]`, section 2 and sections 9 to 10 of semver 2.0.0.
fn is_semantic(text: &str) -> bool {
    let (text, build) = split(text, '+');
    let (core, prerelease) = split(text, '-');
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.iter().all(|number| is_number(number))
        && prerelease
            .is_none_or(|words| words.split('.').all(|word| is_word(word) && (!is_digits(word) || is_number(word))))
        && build.is_none_or(|words| words.split('.').all(is_word))
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    is_digits(text) && (text == "0" || !text.starts_with('0'))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_semantic_versions_are_versions() {
        for good in ["0.0.0", "1.20.300", "1.0.0-alpha.1", "1.0.0-0a", "1.0.0+001.x", "1.0.0-a-b.0+c-d", "1.0.0--"] {
            assert!(is_semantic(good), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.0",
            "1.0.0.0",
            "01.0.0",
            "1.0.x",
            "v1.0.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0+",
            "1.0.0-a..b",
            " 1.0.0",
        ] {
            assert!(!is_semantic(bad), "{bad}");
        }
    }
}
