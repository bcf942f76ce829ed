//! What is taken of the quotas. Counted in the act that records a new wish, so that of two requests at a limit the second
//! one sees the first.

use std::collections::HashMap;

use anyhow::Context;
use sqlx::Row;

use super::Connection;
use crate::admission::{Move, Usage};
use crate::ids::InstanceId;

/// Every living instance but this one.
pub(crate) async fn count(db: &mut Connection, except: &InstanceId) -> anyhow::Result<Usage> {
    let sql = "SELECT plan_id, COUNT(*) AS instances FROM service_instances \
               WHERE deleted_at IS NULL AND id <> $1 GROUP BY plan_id";
    let rows = sqlx::query(sql).bind(except.as_str()).fetch_all(&mut *db).await.context("count the instances")?;
    let counted = rows.iter().map(|row| Ok((row.try_get("plan_id")?, number(row.try_get("instances")?))));
    let plans = counted.collect::<anyhow::Result<HashMap<String, u64>>>()?;
    // The newest operation of the instance, for an update that came before it does not count any more.
    let sql = "SELECT i.plan_id AS origin, o.plan_id AS target, COUNT(*) AS instances \
               FROM operations o JOIN service_instances i ON i.id = o.instance_id \
               WHERE o.plan_id IS NOT NULL AND o.state <> 'succeeded' AND o.plan_id <> i.plan_id \
               AND i.deleted_at IS NULL AND i.id <> $1 \
               AND NOT EXISTS (SELECT 1 FROM operations n WHERE n.instance_id = o.instance_id AND n.number > o.number) \
               GROUP BY i.plan_id, o.plan_id";
    let rows = sqlx::query(sql).bind(except.as_str()).fetch_all(db).await.context("count the plan changes")?;
    let moves = rows.iter().map(|row| {
        let (from, to) = (row.try_get("origin")?, row.try_get("target")?);
        Ok(Move { from, to, instances: number(row.try_get("instances")?) })
    });
    Ok(Usage { plans, moves: moves.collect::<anyhow::Result<_>>()? })
}

/// A count is never negative.
fn number(count: i64) -> u64 {
    count.unsigned_abs()
}
