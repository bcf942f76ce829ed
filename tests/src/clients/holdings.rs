//! What the two servers hold in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::mysql::MySqlConnection;
use sqlx::{Executor, Row as _};

use super::{Family, TABLE};
use crate::eventually;
use crate::history::Row;
use crate::judge::Holdings;
use crate::mysql::{self, Credentials};

/// Both servers' holdings, `[A, B]`, as soon as they are equal, or as they are after `limit`: what follows takes a while,
/// and only a difference that stays is one.
///
/// # Errors
/// A server cannot be read.
pub async fn settled(family: Family, servers: &[Credentials; 2], limit: Duration) -> Result<[Holdings; 2]> {
    let equal = eventually("the servers hold the same", limit, async || {
        let both = both(family, servers).await?;
        Ok((both[0] == both[1]).then_some(both))
    });
    match equal.await {
        Ok(equal) => Ok(equal),
        Err(_) => both(family, servers).await,
    }
}

async fn both(family: Family, servers: &[Credentials; 2]) -> Result<[Holdings; 2]> {
    let (a, b) = tokio::join!(read(family, &servers[0]), read(family, &servers[1]));
    Ok([a?, b?])
}

async fn read(family: Family, server: &Credentials) -> Result<Holdings> {
    let mut connection = server.connect().await?;
    // In this order: a transaction in between makes the two sides unequal, never equal by mistake.
    let rows = rows(&mut connection).await?;
    let checksum = checksum(&mut connection).await?;
    let gtid_executed = mysql::text(&mut connection, &format!("SELECT {}", family.executed())).await?;
    Ok(Holdings { rows, gtid_executed, checksum })
}

async fn rows(connection: &mut MySqlConnection) -> Result<BTreeSet<Row>> {
    let query = format!("SELECT client, n FROM {TABLE}");
    let rows =
        connection.fetch_all(sqlx::raw_sql(sqlx::AssertSqlSafe(query))).await.context("read the clients' rows")?;
    let row = |row: &sqlx::mysql::MySqlRow| -> Result<Row> {
        Ok(Row { client: row.try_get_unchecked(0)?, number: row.try_get_unchecked(1)? })
    };
    rows.iter().map(row).collect()
}

async fn checksum(connection: &mut MySqlConnection) -> Result<u64> {
    let query = format!("CHECKSUM TABLE {TABLE} EXTENDED");
    let row = connection.fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(query))).await.context("take the checksum")?;
    row.try_get_unchecked(1).context("read the checksum")
}
