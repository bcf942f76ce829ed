//! The lines of an errand, with the time in front as the reference writes it: `2018/04/03 18:08:46 text`, in UTC.

use time::OffsetDateTime;
use time::macros::format_description;

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// To standard output.
    Spoken,
    /// Nowhere: standard output is for something that a program reads.
    Silent,
}

impl Journal {
    /// A line of progress.
    pub fn line(self, text: &str) {
        if self == Journal::Spoken {
            println!("{} {text}", now());
        }
    }

    /// A block of lines without the time, below a line that has only the time.
    pub fn block(self, lines: &[String]) {
        if self == Journal::Spoken {
            println!("{}", now());
            lines.iter().for_each(|line| println!("{line}"));
        }
    }

    /// What went wrong, which is never silent.
    pub fn error(self, text: &str) {
        eprintln!("{} {text}", now());
    }
}

fn now() -> String {
    OffsetDateTime::now_utc()
        .format(format_description!("[year]/[month]/[day] [hour]:[minute]:[second]"))
        .expect("a time has all parts of a date")
}
