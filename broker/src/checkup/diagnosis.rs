//! From what was found to what is wrong. Pure.

use std::collections::BTreeSet;
use std::error::Error;

use reqwest::StatusCode;
use rustls::CertificateError;

use super::Inventory;
use crate::bosh::{self, Denied, Resource};

/// What to do about an error of the director.
pub(super) fn advice(error: &bosh::Error) -> &'static str {
    match error {
        bosh::Error::Unreachable { cause, .. } => match distrust(cause) {
            Some(Distrust::Issuer) => "the certificate of the director is not signed by the property `director.ca`",
            Some(Distrust::Host) => {
                "the certificate of the director is not for the host of the property `director.url`"
            }
            Some(Distrust::Time) => "the certificate of the director has expired, or is not valid yet",
            None => "nothing answers at the property `director.url`",
        },
        bosh::Error::Denied { cause, .. } => advice_on_denial(cause),
        bosh::Error::Refused { status: StatusCode::UNAUTHORIZED, code: 0, .. } => {
            "the director does not take our authorization: check the properties `director.client` and `director.client_secret`"
        }
        bosh::Error::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => {
            "the client of the property `director.client` lacks a scope: it needs `bosh.admin`, or `bosh.teams.TEAM.admin`"
        }
        bosh::Error::Refused { .. } => "the director, or a proxy before it, is in trouble",
        bosh::Error::Lost { .. } => "the director does not answer in time",
        bosh::Error::Garbled { .. } => "what answers at the property `director.url` is no director that we understand",
    }
}

fn advice_on_denial(denied: &Denied) -> &'static str {
    match denied {
        Denied::Director(cause) => advice(cause),
        Denied::Unknown(_) => "the director wants an authentication that we do not have",
        Denied::Unreachable { cause, .. } => match distrust(cause.as_ref()) {
            Some(Distrust::Issuer) => {
                "the certificate of the UAA is not signed by the property `director.uaa_ca` (`director.ca` without it)"
            }
            Some(Distrust::Host) => "the certificate of the UAA is not for the host that the director names",
            Some(Distrust::Time) => "the certificate of the UAA has expired, or is not valid yet",
            None => "the UAA that the director names does not answer",
        },
        Denied::Refused { status, .. } if status.is_client_error() => {
            "the UAA refuses the client: check the properties `director.client` and `director.client_secret`"
        }
        Denied::Refused { .. } => "the UAA, or a proxy before it, is in trouble",
        Denied::Garbled { .. } => "what answers where the director names its UAA is no UAA that we understand",
    }
}

/// What is wrong with the certificate of the other end.
enum Distrust {
    Issuer,
    Host,
    Time,
}

/// None where the certificate was not the trouble.
fn distrust(error: &(dyn Error + 'static)) -> Option<Distrust> {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        return Some(Distrust::of(why));
    }
    // An I/O error hides the one that it stands for: its source is the source of that one.
    let hidden = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match hidden {
        Some(hidden) => distrust(hidden),
        None => distrust(error.source()?),
    }
}

impl Distrust {
    fn of(why: &CertificateError) -> Distrust {
        use CertificateError as Why;
        match why {
            Why::NotValidForName | Why::NotValidForNameContext { .. } => Distrust::Host,
            Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. } => {
                Distrust::Time
            }
            // An authority of the same name with another key makes a bad signature.
            _ => Distrust::Issuer,
        }
    }
}

/// Whether a director of this version lacks the links that others than deployments make; one that was built from source
/// (`0.0.0`) does not say.
pub(super) fn is_too_old(version: &str) -> bool {
    let first = version.split_whitespace().next().unwrap_or_default();
    let numbers: Option<Vec<u64>> = first.split('.').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        None | Some([] | [_] | [0, ..]) => false,
        // Named after a stemcell: older than all others.
        Some([_, _, _, _, ..]) => true,
        Some(&[266, minor, ..]) => minor < 12,
        Some(&[267, minor, ..]) => minor < 6,
        Some(&[major, ..]) => major < 266,
    }
}

/// What the director does not have, and where it was looked for. What the director does not tell is not missed.
pub(super) fn missing<'a>(
    needs: impl Iterator<Item = &'a Resource>,
    has: &Inventory,
) -> Vec<(&'a Resource, &'static str)> {
    let place = |need: &Resource| match need {
        Resource::Release { .. } => (&has.releases, "the director"),
        Resource::Stemcell { .. } => (&has.stemcells, "the director"),
        Resource::AvailabilityZone(_)
        | Resource::VmType(_)
        | Resource::VmExtension(_)
        | Resource::DiskType(_)
        | Resource::Network(_) => (&has.cloud, "the director's cloud config"),
    };
    let is_missing = |there: &Option<BTreeSet<Resource>>, need| there.as_ref().is_some_and(|all| !all.contains(need));
    needs
        .filter_map(|need| {
            let (there, name) = place(need);
            is_missing(there, need).then_some((need, name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_director_without_the_links_of_others_is_too_old() {
        for (version, expected) in [
            ("282.1.0 (00000000)", false),
            ("268.0.0", false),
            ("267.6.0", false),
            ("267.5.9", true),
            ("266.12.0", false),
            ("266.11.0", true),
            ("265.3.0", true),
            ("1.3262.0.0 (00000000)", true),
            ("0.0.0 (00000000)", false),
            ("0.1.0 (00000000)", false),
            ("unknown", false),
            ("", false),
        ] {
            assert_eq!(is_too_old(version), expected, "{version}");
        }
    }

    #[test]
    fn what_the_director_does_not_tell_is_not_missed() {
        let release = |version: &str| Resource::Release { name: "tandem".into(), version: version.into() };
        let needs = [Resource::VmType("small".into()), Resource::Network("default".into()), release("1")];
        let has = |cloud: Option<&Resource>, releases: Option<Resource>| Inventory {
            cloud: cloud.map(|one| BTreeSet::from([one.clone()])),
            releases: releases.map(|one| BTreeSet::from([one])),
            stemcells: None,
        };
        for (has, expected) in [
            (has(None, None), vec![]),
            (has(Some(&needs[0]), None), vec![(&needs[1], "the director's cloud config")]),
            (has(None, Some(release("1"))), vec![]),
            (has(None, Some(release("2"))), vec![(&needs[2], "the director")]),
        ] {
            assert_eq!(missing(needs.iter(), &has), expected, "{has:?}");
        }
    }
}
