//! Archives whose bytes depend on the names, the modes and the contents of their files, and on nothing else.

use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The longest name that the plain form of a header holds.
const NAME_LIMIT: usize = 100;

/// A file in an archive.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its path, without the `./` that archives of a release begin with.
    pub(crate) name: String,
    pub(crate) is_program: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Entry {
    pub(crate) fn document(name: &str, bytes: Vec<u8>) -> Entry {
        Entry { name: name.to_owned(), is_program: false, bytes }
    }
}

/// The archive, compressed, with the entries in their order.
pub(crate) fn write(entries: &[Entry]) -> Result<Vec<u8>> {
    // Without a file name and a time in its head.
    let compressed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    let mut archive = Builder::new(compressed);
    for entry in entries {
        let header = header(entry).with_context(|| format!("put {} into the archive", entry.name))?;
        archive.append(&header, entry.bytes.as_slice()).with_context(|| format!("pack {}", entry.name))?;
    }
    archive.into_inner().and_then(flate2::write::GzEncoder::finish).context("end the archive")
}

/// As `sha256sum` prints it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One digest for all that a change of which is a change of the archive.
pub(crate) fn fingerprint(entries: &[Entry]) -> String {
    let lines: String =
        entries.iter().map(|entry| format!("{} {} {}\n", entry.name, entry.is_program, digest(&entry.bytes))).collect();
    digest(lines.as_bytes())
}

fn header(entry: &Entry) -> Result<Header> {
    // The library would leave the `./` out, which the archives of the `bosh` CLI have.
    let name = format!("./{}", entry.name);
    ensure!(name.len() <= NAME_LIMIT, "its name is longer than {NAME_LIMIT} bytes");
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if entry.is_program { 0o755 } else { 0o644 });
    header.set_size(entry.bytes.len().try_into().context("tell its size")?);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}
