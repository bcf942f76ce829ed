//! The table `witness_records`: what the broker has agreed to as a voter of each pair.

use agent::quorum::Record;
use anyhow::Context;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Connection;
use crate::ids::InstanceId;

/// One life of a service instance: its id may live again after it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) instance: InstanceId,
    generation: i64,
}

/// The living instance whose agents have this name, and the record of its pair; a new one where nothing was agreed to yet.
pub(crate) async fn find(db: &mut Connection, certificate_name: &str) -> anyhow::Result<Option<(Life, Record)>> {
    let sql = "SELECT i.id, i.generation, r.epoch, r.leader, r.lease_ms, r.in_sync, r.withdrawals, r.is_vacant \
               FROM service_instances i LEFT JOIN witness_records r ON r.instance_id = i.id \
               WHERE i.certificate_name = $1 AND i.deleted_at IS NULL";
    let row = sqlx::query(sql).bind(certificate_name).fetch_optional(db).await.context("look up a witness record")?;
    row.as_ref().map(|row| Ok((life(row)?, record(row)?))).transpose()
}

/// Write a record; false where that life of the instance is over, and nothing is written.
pub(crate) async fn save(db: &mut Connection, life: &Life, record: &Record) -> anyhow::Result<bool> {
    let sql = "INSERT INTO witness_records (instance_id, epoch, leader, lease_ms, in_sync, withdrawals, is_vacant) \
               SELECT id, $3, $4, $5, $6, $7, $8 FROM service_instances \
               WHERE id = $1 AND generation = $2 AND deleted_at IS NULL \
               ON CONFLICT (instance_id) DO UPDATE SET epoch = excluded.epoch, leader = excluded.leader, \
               lease_ms = excluded.lease_ms, in_sync = excluded.in_sync, withdrawals = excluded.withdrawals, \
               is_vacant = excluded.is_vacant";
    let query = sqlx::query(sql)
        .bind(life.instance.as_str())
        .bind(life.generation)
        .bind(i64::try_from(record.epoch).context("write the epoch of a witness record")?)
        .bind(record.leader.as_deref())
        .bind(i64::try_from(record.lease_ms).context("write the lease of a witness record")?)
        .bind(record.in_sync)
        .bind(i64::try_from(record.withdrawals).context("write the withdrawals of a witness record")?)
        .bind(record.is_vacant);
    Ok(query.execute(db).await.context("write a witness record")?.rows_affected() == 1)
}

/// Forget what was agreed to for an instance that is gone.
pub(crate) async fn delete(db: &mut Connection, instance: &InstanceId) -> anyhow::Result<()> {
    let sql = "DELETE FROM witness_records WHERE instance_id = $1";
    sqlx::query(sql).bind(instance.as_str()).execute(db).await.context("forget a witness record")?;
    Ok(())
}

fn life(row: &SqliteRow) -> anyhow::Result<Life> {
    let id: &str = row.try_get("id")?;
    let instance = InstanceId::parse(id).with_context(|| format!("read the id `{id}`"))?;
    Ok(Life { instance, generation: row.try_get("generation")? })
}

fn record(row: &SqliteRow) -> anyhow::Result<Record> {
    let Some(epoch) = row.try_get::<Option<i64>, _>("epoch")? else { return Ok(Record::default()) };
    Ok(Record {
        epoch: u64::try_from(epoch).context("read the epoch of a witness record")?,
        leader: row.try_get("leader")?,
        lease_ms: u64::try_from(row.try_get::<i64, _>("lease_ms")?).context("read the lease of a witness record")?,
        in_sync: row.try_get("in_sync")?,
        withdrawals: u64::try_from(row.try_get::<i64, _>("withdrawals")?)
            .context("read the withdrawals of a witness record")?,
        is_vacant: row.try_get("is_vacant")?,
    })
}
