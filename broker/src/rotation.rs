//! The change of an encryption key: everything that an older key of `encryption_keys` sealed is sealed anew at the start,
//! so that the older key can leave the list.

use anyhow::Context;

use crate::app::App;
use crate::store::bindings::{self, Key};

/// How many rows are looked at in one go.
const PAGE: i64 = 500;

/// Seal anew what the first key did not seal. It may be interrupted and repeated.
pub(crate) async fn run(app: &App) -> anyhow::Result<()> {
    if !app.sealer.has_old_keys() {
        return Ok(());
    }
    let (mut renewed, mut lost) = (0_u64, 0_u64);
    let mut last: Option<Key> = None;
    loop {
        let page = bindings::sealed_after(&mut app.store.connection().await?, last.as_ref(), PAGE).await?;
        let Some((key, _)) = page.last() else { break };
        last = Some(key.clone());
        for (key, sealed) in page {
            match renew(app, &key, &sealed).await {
                Ok(is_renewed) => renewed += u64::from(is_renewed),
                Err(error) => {
                    lost += 1;
                    let cause = format!("{error:#}");
                    tracing::error!(instance_id = %key.instance, binding_id = %key.binding, cause, "cannot renew a seal");
                }
            }
        }
    }
    tracing::info!(renewed, lost, "every binding that can be opened is sealed with the first key; the others can go");
    Ok(())
}

async fn renew(app: &App, key: &Key, sealed: &str) -> anyhow::Result<bool> {
    let Some(anew) = app.sealer.renew(&key.instance, &key.binding, sealed)? else { return Ok(false) };
    let mut tx = app.store.begin().await.context("renew a seal")?;
    let is_renewed = bindings::replace_sealed(&mut tx, key, sealed, &anew).await?;
    tx.commit().await.context("renew a seal")?;
    Ok(is_renewed)
}
