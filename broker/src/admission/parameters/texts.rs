//! Character sets and collations: those that both families of servers have, so that a plan may change its family. Left out are
//! the character sets in which no session can speak (`ucs2`, `utf16`, `utf16le`, `utf32`).

mod collations;

use serde::Serialize;
use serde_json::Value;

use collations::COLLATIONS;

/// How new schemas hold their texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Texts {
    #[serde(rename = "default-charset", skip_serializing_if = "Option::is_none")]
    pub(crate) charset: Option<&'static str>,
    #[serde(rename = "default-collation", skip_serializing_if = "Option::is_none")]
    pub(crate) collation: Option<&'static str>,
}

/// The names of all character sets.
pub(crate) fn charsets() -> impl Iterator<Item = &'static str> {
    COLLATIONS.iter().map(|(charset, _)| *charset)
}

pub(super) fn charset(name: &str, value: &Value) -> Result<&'static str, String> {
    let given = value.as_str().map(|given| if given == "utf8" { "utf8mb3" } else { given });
    let found = charsets().find(|charset| Some(*charset) == given);
    found.ok_or_else(|| {
        let all: Vec<_> = charsets().collect();
        format!("the configuration parameter '{name}' must be one of {}", all.join(", "))
    })
}

pub(super) fn collation(name: &str, value: &Value) -> Result<&'static str, String> {
    // Newer servers have given `utf8` a name that says what it is.
    let given = value.as_str().map(|given| match given.strip_prefix("utf8_") {
        Some(rest) => format!("utf8mb3_{rest}"),
        None => given.to_owned(),
    });
    let mut all = COLLATIONS.iter().flat_map(|(_, collations)| collations.iter());
    all.find(|collation| given.as_deref() == Some(collation)).copied().ok_or_else(|| {
        format!("the configuration parameter '{name}' must be one that every server has, such as utf8mb4_unicode_ci")
    })
}

impl Texts {
    /// A collation is of one character set, which is meant where none was named.
    pub(super) fn pair(&mut self, name: &str) -> Result<(), String> {
        let Some(collation) = self.collation else { return Ok(()) };
        for (charset, fitting) in &COLLATIONS {
            let is_own = fitting.contains(&collation);
            match self.charset {
                None if is_own => self.charset = Some(charset),
                Some(named) if named == *charset && !is_own => {
                    return Err(format!(
                        "the configuration parameter '{name}' must be one of the character set {charset}: {}",
                        fitting.join(", ")
                    ));
                }
                None | Some(_) => {}
            }
        }
        Ok(())
    }
}
