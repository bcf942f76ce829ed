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
    /// A time against its floor.
    pub(crate) fn ratio(what: &str, product: Vec<Duration>, floor: Vec<Duration>, target: f64) -> Row {
        let spread = |times: &[Duration]| {
            let (low, high) = (times.iter().min(), times.iter().max());
            format!(
                "{} ({}-{})",
                ms(median(times)),
                ms(low.copied().unwrap_or_default()),
                ms(high.copied().unwrap_or_default())
            )
        };
        let ratio = median(&product).as_secs_f64() / median(&floor).as_secs_f64();
        Row {
            what: what.to_owned(),
            product: spread(&product),
            floor: spread(&floor),
            ratio: format!("{ratio:.2}x"),
            target: format!("<= {target}x {}", verdict(ratio <= target)),
        }
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

/// Print the table.
pub(crate) fn print(rows: &[Row], repetitions: u32) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "\nMedians of {repetitions} repetitions in ms (lowest-highest), product and floor in turns, {cores} cores\n"
    );
    println!("| what | Tandem | floor | ratio | target |\n| --- | --- | --- | --- | --- |");
    for row in rows {
        println!("| {} | {} | {} | {} | {} |", row.what, row.product, row.floor, row.ratio, row.target);
    }
}

fn ms(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1000.0)
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
