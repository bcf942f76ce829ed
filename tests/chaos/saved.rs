//! The rows that a replaced leader saved before it followed: what the product reports as lost to the new leader.

use std::collections::BTreeSet;
use std::fs;

use ::tests::clients::TABLE;
use ::tests::history::{Row, Side};
use anyhow::{Context, Result};

use crate::pair::Pair;

/// As an operator who has seen to them: later ones are of this schedule.
pub(crate) fn remove(pair: &Pair) -> Result<()> {
    for side in Side::BOTH {
        let directory = pair.saved(side)?;
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
        }
    }
    Ok(())
}

/// The clients' rows in every file that is there.
pub(crate) fn rows(pair: &Pair) -> Result<BTreeSet<Row>> {
    let mut rows = BTreeSet::new();
    for side in Side::BOTH {
        for entry in fs::read_dir(pair.saved(side)?).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "sql") {
                let text = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
                rows.extend(rows_in(&String::from_utf8_lossy(&text)));
            }
        }
    }
    Ok(rows)
}

/// The columns come one below the other: client, number, term.
fn rows_in(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("### INSERT INTO") || !line.contains(TABLE) {
            continue;
        }
        let mut value = || {
            let column = lines.by_ref().find(|line| line.contains('@'))?;
            column.split_once('=')?.1.split_whitespace().next()?.parse::<u64>().ok()
        };
        if let (Some(client), Some(number)) = (value().and_then(|client| u32::try_from(client).ok()), value()) {
            rows.push(Row { client, number });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_the_tools_write_them() {
        let text = "#Q> insert\n### INSERT INTO `d`.`chaos_rows`\n### SET\n###   @1=3 /* INT meta=0 */\n###   @2=17\n\
                    ###   @3=5\n### INSERT INTO `replication_monitoring`.`heartbeat`\n### SET\n###   @1=1\n###   @2=2\n";

        assert_eq!(rows_in(text), [Row { client: 3, number: 17 }]);
    }
}
