//! PURE. The `variables:` block of a manifest, understood.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

/// One variable to be made.
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Password(PasswordOptions),
    Certificate(CertificateOptions),
    Rsa(RsaOptions),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordOptions {
    #[serde(default = "password_length")]
    pub(super) length: usize,
}

fn password_length() -> usize {
    40
}

/// The words are CredHub's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateOptions {
    #[serde(default)]
    pub(super) is_ca: bool,
    /// The variable that signs.
    pub(super) ca: Option<String>,
    #[serde(default)]
    pub(super) self_sign: bool,
    pub(super) common_name: Option<String>,
    #[serde(default)]
    pub(super) alternative_names: Vec<String>,
    pub(super) organization: Option<String>,
    #[serde(default)]
    pub(super) extended_key_usage: Vec<ExtendedKeyUsage>,
    /// In days.
    #[serde(default = "duration")]
    pub(super) duration: u32,
}

/// Ten years, where CredHub has one: nobody renews what this director made.
fn duration() -> u32 {
    3650
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExtendedKeyUsage {
    ServerAuth,
    ClientAuth,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RsaOptions {
    #[serde(default = "key_length")]
    pub(super) key_length: usize,
}

fn key_length() -> usize {
    2048
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    options: Value,
    update_mode: Option<String>,
}

impl Definition {
    /// The variable that must be there before this one can be made.
    pub(super) fn signer(&self) -> Option<&str> {
        match &self.kind {
            Kind::Certificate(options) => options.ca.as_deref(),
            Kind::Password(_) | Kind::Rsa(_) => None,
        }
    }

    pub(super) fn is_ca(&self) -> bool {
        matches!(&self.kind, Kind::Certificate(options) if options.is_ca)
    }
}

/// The definitions of a manifest, in their order. An error names the variable.
pub(super) fn parse(manifest: &Value) -> Result<Vec<Definition>, String> {
    match manifest.get("variables") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Sequence(list)) => {
            let definitions = list.iter().map(parse_one).collect::<Result<Vec<_>, _>>()?;
            refuse_twins(&definitions)?;
            Ok(definitions)
        }
        Some(_) => Err("`variables:` must be a list of {name, type, options}".to_owned()),
    }
}

fn refuse_twins(definitions: &[Definition]) -> Result<(), String> {
    for (index, definition) in definitions.iter().enumerate() {
        if definitions[..index].iter().any(|earlier| earlier.name == definition.name) {
            return Err(format!("the variable {} is defined twice", definition.name));
        }
    }
    Ok(())
}

fn parse_one(value: &Value) -> Result<Definition, String> {
    let raw: Raw = serde_yaml::from_value(value.clone()).map_err(|error| {
        let name = value.get("name").and_then(Value::as_str).unwrap_or("without a name");
        format!("the variable {name}: {error}")
    })?;
    let name = raw.name;
    if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '/')) || name.is_empty() {
        return Err(format!("the variable '{name}': a name has letters, digits, '-', '_' and '/'"));
    }
    if let Some(mode) = raw.update_mode.filter(|mode| mode != "no-overwrite") {
        return Err(format!("the variable {name}: update_mode {mode} is not known to this director, no-overwrite is"));
    }
    let kind = match raw.kind.as_str() {
        "password" => Kind::Password(options(&name, raw.options)?),
        "certificate" => Kind::Certificate(options(&name, raw.options)?),
        "rsa" => Kind::Rsa(options(&name, raw.options)?),
        other => return Err(format!("the variable {name}: type {other} is not one of password, certificate, rsa")),
    };
    check(&name, &kind)?;
    Ok(Definition { name, kind })
}

fn options<T: DeserializeOwned>(name: &str, options: Value) -> Result<T, String> {
    let options = if options.is_null() { Value::Mapping(serde_yaml::Mapping::new()) } else { options };
    serde_yaml::from_value(options).map_err(|error| format!("the options of the variable {name}: {error}"))
}

fn check(name: &str, kind: &Kind) -> Result<(), String> {
    match kind {
        Kind::Password(options) if !(8..=1024).contains(&options.length) => {
            Err(format!("the password {name}: a length from 8 to 1024 is possible, not {}", options.length))
        }
        Kind::Rsa(options) if ![2048, 3072, 4096].contains(&options.key_length) => {
            Err(format!("the RSA key {name}: key_length is 2048, 3072 or 4096, not {}", options.key_length))
        }
        Kind::Certificate(options) if options.ca.is_none() && !options.is_ca && !options.self_sign => {
            Err(format!("the certificate {name} needs one of the options `ca`, `is_ca: true`, `self_sign: true`"))
        }
        Kind::Certificate(options) if !(1..=36500).contains(&options.duration) => {
            Err(format!("the certificate {name}: a duration from 1 to 36500 days is possible"))
        }
        Kind::Password(_) | Kind::Rsa(_) | Kind::Certificate(_) => Ok(()),
    }
}
