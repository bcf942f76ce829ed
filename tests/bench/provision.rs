//! From the PUT to `succeeded`, against the same servers made by hand.

use std::time::Instant;

use anyhow::Result;
use tests::Stack;
use tests::broker::{self, DB_SINGLE};
use tests::clients::Family;

use crate::floor::{Floor, Topology};
use crate::plans::{self, Mode};
use crate::settings::Settings;
use crate::table::Row;

/// The most that the product may need, in floors.
const TARGET: f64 = 2.0;

/// The product's times and the floor's, taken in turns.
pub(crate) async fn measure(stack: &Stack, floor: &Floor, settings: &Settings, repetitions: u32) -> Result<Vec<Row>> {
    let single = (floor.family == Family::Mariadb).then_some((DB_SINGLE, Topology::Single));
    let pair = (plans::pair(floor.family, Mode::Async), Topology::Pair);
    let mut rows = Vec::new();
    for (plan, topology) in single.into_iter().chain([pair]) {
        let what = format!("PUT to succeeded, {}, {topology:?}", floor.family.name()).to_lowercase();
        let (mut product, mut bare) = (Vec::new(), Vec::new());
        for repetition in 1..=repetitions {
            let id = broker::new_id();
            let started = Instant::now();
            stack.broker.provisioned(&id, plan).await?;
            product.push(started.elapsed());
            stack.broker.deprovisioned(&id, plan).await?;
            bare.push(floor.start(topology, settings)?);
            floor.stop()?;
            eprintln!("{what} {repetition}/{repetitions}: {:?} against {:?}", product.last(), bare.last());
        }
        rows.push(Row::ratio(&what, &product, &bare, Some(TARGET)));
    }
    Ok(rows)
}
