//! The events of transactions, copied byte for byte into one file that reads like a log file of the server.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::catalogue;
use crate::mysql::{Piece, Transaction};

/// How every log file begins.
const MAGIC: &[u8] = b"\xfebin";
/// The header of an event has its length at this offset, and the flags at that one.
const HEADER: usize = 19;
const LENGTH_AT: usize = 9;
const FLAGS_AT: usize = 17;
/// The file was not closed yet. The checksum does not cover it.
const IN_USE: u8 = 1;
/// A line of the text holds a GTID near its beginning; rows may make it very long.
const LINE_KEPT: usize = 512;

/// How many bytes a copy takes, roughly: without what says how the events are written.
pub(super) fn size(data: &Path, transactions: &[Transaction]) -> Result<u64> {
    let mut logs = Logs::new(data);
    let mut bytes = MAGIC.len() as u64;
    for piece in transactions.iter().flat_map(|transaction| &transaction.pieces) {
        bytes += logs.end_of(piece)? - piece.first;
    }
    Ok(bytes)
}

/// Copy the transactions, and have them on the disk.
pub(super) fn copy(data: &Path, transactions: &[Transaction], to: &Path) -> Result<()> {
    let mut logs = Logs::new(data);
    let mut output = BufWriter::new(catalogue::create(to)?);
    output.write_all(MAGIC)?;
    let mut format = None;
    for piece in transactions.iter().flat_map(|transaction| &transaction.pieces) {
        let needed = (piece.file.as_str(), piece.format);
        if format != Some(needed) {
            output.write_all(&logs.format(piece)?)?;
            format = Some(needed);
        }
        let end = logs.end_of(piece)?;
        let log = logs.open(&piece.file)?;
        log.seek(SeekFrom::Start(piece.first))?;
        let copied = std::io::copy(&mut log.take(end - piece.first), &mut output)?;
        ensure!(copied == end - piece.first, "{} ends in the middle of an event", piece.file);
    }
    let file = output.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all().with_context(|| format!("write {} to the disk", to.display()))
}

/// The log files; one is open at a time.
struct Logs<'a> {
    data: &'a Path,
    open: Option<(String, BufReader<File>)>,
}

impl<'a> Logs<'a> {
    fn new(data: &'a Path) -> Logs<'a> {
        Logs { data, open: None }
    }

    fn open(&mut self, name: &str) -> Result<&mut BufReader<File>> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let path: PathBuf = self.data.join(name);
            let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            self.open = Some((name.to_owned(), BufReader::new(file)));
        }
        self.open.as_mut().map(|(_, file)| file).context("the file was opened")
    }

    fn header(&mut self, name: &str, offset: u64) -> Result<[u8; HEADER]> {
        let log = self.open(name)?;
        let mut header = [0; HEADER];
        log.seek(SeekFrom::Start(offset))?;
        log.read_exact(&mut header).with_context(|| format!("read {name} at {offset}"))?;
        Ok(header)
    }

    fn end_of(&mut self, piece: &Piece) -> Result<u64> {
        let header = self.header(&piece.file, piece.last)?;
        let end = piece.last + length(&header);
        ensure!(end > piece.first, "{} has an event without a length at {}", piece.file, piece.last);
        Ok(end)
    }

    /// The event that says how the others are written.
    fn format(&mut self, piece: &Piece) -> Result<Vec<u8>> {
        let header = self.header(&piece.file, piece.format)?;
        let mut event = vec![0; usize::try_from(length(&header))?.max(HEADER)];
        let log = self.open(&piece.file)?;
        log.seek(SeekFrom::Start(piece.format))?;
        log.read_exact(&mut event).with_context(|| format!("read {} at {}", piece.file, piece.format))?;
        event[FLAGS_AT] &= !IN_USE;
        Ok(event)
    }
}

fn length(header: &[u8; HEADER]) -> u64 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[LENGTH_AT..LENGTH_AT + 4]);
    u64::from(u32::from_le_bytes(bytes))
}

/// Read the text that a human is given, and see that no transaction is missing in it.
pub(super) fn check_text(text: &Path, mut wanted: HashSet<String>) -> Result<()> {
    let mut input = BufReader::new(File::open(text).with_context(|| format!("open {}", text.display()))?);
    let mut line = Vec::with_capacity(LINE_KEPT);
    while next_line(&mut input, &mut line)? {
        if let Some(gtid) = gtid_in(&String::from_utf8_lossy(&line)) {
            wanted.remove(gtid);
        }
    }
    let Some(missing) = wanted.iter().min() else { return Ok(()) };
    anyhow::bail!("{} of the transactions are missing in the text, {missing} among them", wanted.len())
}

/// `#... end_log_pos 342 CRC32 0x... GTID 0-1-3 trans` (behind a tab), or `SET @@SESSION.GTID_NEXT= 'uuid:3'`.
fn gtid_in(line: &str) -> Option<&str> {
    if let Some(set) = line.strip_prefix("SET @@SESSION.GTID_NEXT= '") {
        return set.split('\'').next();
    }
    let event = line.strip_prefix('#').filter(|event| event.starts_with(|c: char| c.is_ascii_digit()))?;
    event.split_once("\tGTID ")?.1.split_whitespace().next()
}

/// The beginning of the next line; false at the end.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let mut is_there = false;
    loop {
        let buffer = input.fill_buf().context("read what was saved")?;
        if buffer.is_empty() {
            return Ok(is_there);
        }
        is_there = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&part[..part.len().min(LINE_KEPT - line.len())]);
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut event = vec![0; HEADER];
        event[4] = kind;
        event[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&u32::try_from(HEADER + body.len()).unwrap().to_le_bytes());
        event.extend_from_slice(body);
        event
    }

    #[test]
    fn a_copy_is_a_log_file_with_these_transactions_alone() {
        let data = tempfile::tempdir().unwrap();
        let mut format = event(15, b"format");
        format[FLAGS_AT] = IN_USE;
        let (other, gtid, rows) = (event(1, b"other"), event(162, b"gtid"), event(2, b"rows"));
        let log = [MAGIC, &format, &other, &gtid, &rows, &other].concat();
        std::fs::write(data.path().join("mysql-bin.000001"), log).unwrap();
        let first = (MAGIC.len() + format.len() + other.len()) as u64;
        let piece = Piece { file: "mysql-bin.000001".into(), format: 4, first, last: first + gtid.len() as u64 };
        let transaction = Transaction { pieces: vec![piece], ..Transaction::default() };
        let to = data.path().join("copy");

        copy(data.path(), &[transaction], &to).unwrap();

        format[FLAGS_AT] = 0;
        assert_eq!(std::fs::read(&to).unwrap(), [MAGIC, &format, &gtid, &rows].concat());
    }

    #[test]
    fn a_text_without_one_of_the_transactions_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text");
        let long = "x".repeat(100_000);
        std::fs::write(
            &text,
            format!("-- head\n#241122 0:52:48 server id 1  end_log_pos 5 CRC32 0x1 \tGTID 0-1-5 trans\n### {long}\n"),
        )
        .unwrap();
        let wanted = |gtids: &[&str]| gtids.iter().map(|gtid| (*gtid).to_owned()).collect();

        check_text(&text, wanted(&["0-1-5"])).unwrap();
        let error = check_text(&text, wanted(&["0-1-5", "0-1-6"])).unwrap_err().to_string();
        assert_eq!(error, "1 of the transactions are missing in the text, 0-1-6 among them");
        assert_eq!(gtid_in("SET @@SESSION.GTID_NEXT= '82ddc607:7'/*!*/;"), Some("82ddc607:7"));
        assert_eq!(gtid_in("###   @1='\tGTID 0-1-7'"), None);
    }
}
