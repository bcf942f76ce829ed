//! Medians, ratios and how they are printed.

use std::time::Duration;

/// One line of the result.
pub(crate) struct Row {
    what: String,
    product: String,
    floor: String,
    ratio: String,
    target: String,
}

impl Row {
    /// Times against their floor, with the most that the ratio of the medians may be.
    pub(crate) fn ratio(what: &str, product: &[Duration], floor: &[Duration], target: Option<f64>) -> Row {
        let row = Row::single(what, median(product), median(floor), target);
        Row { product: spread(product), floor: spread(floor), ..row }
    }

    /// The same for one time of each.
    pub(crate) fn single(what: &str, product: Duration, floor: Duration, target: Option<f64>) -> Row {
        let ratio = product.as_secs_f64() / floor.as_secs_f64();
        Row {
            what: what.to_owned(),
            product: ms(product),
            floor: ms(floor),
            ratio: format!("{ratio:.2}x"),
            target: target.map_or("-".to_owned(), |most| format!("<= {most}x {}", verdict(ratio <= most))),
        }
    }

    /// Times with the most that their median may be.
    pub(crate) fn bound(what: &str, product: &[Duration], floor: &[Duration], target: Option<Duration>) -> Row {
        let is_met = |most| verdict(median(product) <= most);
        let target = target.map_or("-".to_owned(), |most| format!("<= {} {}", ms(most), is_met(most)));
        Row { target, ..Row::ratio(what, product, floor, None) }
    }

    /// How often something happened that must not.
    pub(crate) fn count(what: &str, product: u64, floor: u64) -> Row {
        Row {
            what: what.to_owned(),
            product: product.to_string(),
            floor: floor.to_string(),
            ratio: "-".to_owned(),
            target: format!("0 {}", verdict(product == 0)),
        }
    }

    /// Something beside what a peer needs for it, with what is aimed at and whether it is met.
    pub(crate) fn beside(what: &str, measured: String, peer: &str, target: Option<(String, bool)>) -> Row {
        let target = target.map_or("-".to_owned(), |(aim, is_met)| format!("{aim} {}", verdict(is_met)));
        Row { what: what.to_owned(), product: measured, floor: peer.to_owned(), ratio: "-".to_owned(), target }
    }

    /// A size, with the most that it may be.
    pub(crate) fn size(what: &str, resident_mb: f64, cpu_percent: f64, target_mb: Option<f64>) -> Row {
        Row {
            what: what.to_owned(),
            product: format!("{resident_mb:.1} MB, {cpu_percent:.2} % CPU"),
            floor: "-".to_owned(),
            ratio: "-".to_owned(),
            target: target_mb.map_or("-".to_owned(), |most| format!("<= {most} MB {}", verdict(resident_mb <= most))),
        }
    }
}

/// The middle one.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    match sorted.len() {
        0 => Duration::ZERO,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2,
    }
}

/// The time that so many of a hundred do not exceed.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// Print the table.
pub(crate) fn print(rows: &[Row]) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("\nMedians in ms (lowest-highest), Tandem and floor in turns, {cores} cores\n");
    println!("| what | Tandem | floor | ratio | target |\n| --- | --- | --- | --- | --- |");
    for row in rows {
        println!("| {} | {} | {} | {} | {} |", row.what, row.product, row.floor, row.ratio, row.target);
    }
}

/// Print the table of what was measured beside a peer's figures.
pub(crate) fn print_beside(rows: &[Row]) {
    println!("\nThe broker on simulated VMs; the peer on another day, on a machine of this size\n");
    println!("| what | Tandem | peer | target |\n| --- | --- | --- | --- |");
    for row in rows {
        println!("| {} | {} | {} | {} |", row.what, row.product, row.floor, row.target);
    }
}

fn spread(times: &[Duration]) -> String {
    let end = |time: Option<&Duration>| ms(time.copied().unwrap_or_default());
    format!("{} ({}-{})", ms(median(times)), end(times.iter().min()), end(times.iter().max()))
}

/// Three digits say enough.
fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..10.0 => format!("{ms:.2}"),
        ..100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
