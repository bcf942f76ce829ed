//! SIGHUP: the catalog, the manifests and the certificate are read again. What cannot be used is refused, and what was used
//! before stays; everything else that the configuration says is taken at the next start.

use std::path::Path;

use anyhow::bail;
use axum_server::tls_rustls::RustlsConfig;

use crate::app::App;
use crate::config::Properties;
use crate::documents::Documents;
use crate::http::server_config;

/// Read everything again, or change nothing.
pub(crate) fn reload(config: &Path, app: &App, keys: Option<&RustlsConfig>) {
    match read(config, app, keys) {
        Ok(()) => tracing::info!("the catalog, the manifests and the certificate are the new ones"),
        Err(error) => tracing::error!(
            cause = format!("{error:#}"),
            "the configuration is refused; the catalog, the manifests and the certificate stay as they were"
        ),
    }
}

fn read(config: &Path, app: &App, keys: Option<&RustlsConfig>) -> anyhow::Result<()> {
    let config = agent::config::read::<Properties>(config)?;
    config.properties.check()?;
    let documents = Documents::read(&config.spec, &config.properties)?;
    match (keys, &config.properties.tls) {
        (Some(keys), Some(new)) => keys.reload_from_config(server_config(new)?),
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            bail!("property `tls` has come or gone, which needs a restart of mysql-broker")
        }
    }
    app.replace(documents);
    Ok(())
}
