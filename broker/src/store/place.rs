//! Where the state database is: a SQLite file, or a PostgreSQL server that several brokers share. From here on both are
//! `sqlx`'s connection to any database.

use std::fmt;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use agent::config::Secret;
use anyhow::{Context, ensure};
use reqwest::Url;
use serde::Deserialize;
use sqlx::ConnectOptions;
use sqlx::any::AnyConnectOptions;

/// The property `state_database`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// `postgres://USER@HOST:PORT/DATABASE`, without the password: it may be shown.
    pub(crate) url: String,
    pub(crate) password: Option<Secret>,
    /// Who signed the server's certificate, as PEM. With it the server must show one that is valid for its name.
    pub(crate) ca: Option<String>,
}

/// Where the state database is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    File(PathBuf),
    Server(Server),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(file) => write!(f, "{}", file.display()),
            Place::Server(server) => write!(f, "{} (property `state_database`)", server.url),
        }
    }
}

impl Place {
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Place::Server(_))
    }

    /// How to connect; the directory of a file is made.
    pub(super) fn options(&self) -> anyhow::Result<AnyConnectOptions> {
        let url = match self {
            Place::File(file) => {
                if let Some(directory) = file.parent() {
                    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                }
                let path = Url::from_file_path(file).ok().context("the path is not absolute")?;
                Url::parse(&format!("sqlite://{}?mode=rwc", path.path())).context("write the path as a URL")?
            }
            Place::Server(server) => server.full_url()?,
        };
        AnyConnectOptions::from_url(&url).context("read the URL")
    }

    /// What every connection is told first.
    pub(super) fn settings(&self) -> &'static str {
        match self {
            // The log is flushed by us: see `log.rs`.
            Place::File(_) => "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 10000",
            // A broker that dies or is cut off in the middle of an act must not hold up the others.
            Place::Server(_) => {
                "SET statement_timeout = '10s'; SET lock_timeout = '10s'; \
                 SET idle_in_transaction_session_timeout = '10s'; SET client_min_messages = 'warning'"
            }
        }
    }
}

impl Server {
    /// What the types cannot say. The complaint must not show the URL: there may be a password in it.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let url = Url::parse(&self.url).context("read property `state_database.url`")?;
        let is_known = matches!(url.scheme(), "postgres" | "postgresql");
        ensure!(is_known, "property `state_database.url` must start with postgres:// (leave it out for a SQLite file)");
        let is_secret = url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password");
        ensure!(
            !is_secret,
            "property `state_database.url` must not hold the password: give it as `state_database.password`"
        );
        Ok(())
    }

    fn full_url(&self) -> anyhow::Result<Url> {
        self.check()?;
        let mut url = Url::parse(&self.url)?;
        let has_mode = url.query_pairs().any(|(name, _)| name == "sslmode");
        let mut query = url.query_pairs_mut();
        query.append_pair("application_name", "mysql-broker");
        if let Some(password) = &self.password {
            query.append_pair("password", password.reveal());
        }
        if let Some(ca) = &self.ca {
            query.append_pair("sslrootcert", ca.trim());
            if !has_mode {
                query.append_pair("sslmode", "verify-full");
            }
        }
        drop(query);
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        serde_json::from_value(serde_json::json!({"url": url, "password": "p%4s+s"})).unwrap()
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for url in ["postgres://u:s3cret@h/d", "postgres://u@h/d?password=s3cret", "postgres://u:s3cret@h:99999/d"] {
            let complaint = format!("{:#}", server(url).check().unwrap_err());
            assert!(complaint.contains("state_database") && !complaint.contains("s3cret"), "{complaint}");
        }
        assert!(server("mysql://h/d").check().unwrap_err().to_string().contains("postgres://"));
    }

    #[test]
    fn the_password_goes_to_the_driver_as_it_is_and_is_shown_nowhere() {
        let server = server("postgres://u@h/d");
        let url = server.full_url().unwrap();
        let passwords: Vec<_> = url.query_pairs().filter(|(name, _)| name == "password").collect();
        assert_eq!(passwords[0].1, "p%4s+s");
        let place = Place::Server(server);
        assert!(!format!("{place:?} {place}").contains("p%4"), "{place:?}");
    }
}
