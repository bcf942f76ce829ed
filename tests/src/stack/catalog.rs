//! The manifests with a catalog that offers more: copied, so that ours stay as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// Where the manifests are that offer these plans, too.
pub(super) fn with_plans(ours: &Path, plans: &[Value], directory: &Path) -> Result<PathBuf> {
    if plans.is_empty() {
        return Ok(ours.to_owned());
    }
    let copy = directory.join("manifests");
    copy_documents(ours, &copy)?;
    let catalog = copy.join("catalog.yml");
    let text = fs::read_to_string(&catalog).context("read the catalog")?;
    let mut document: Value = serde_yaml::from_str(&text).context("read the catalog")?;
    let offered = document["services"][0]["plans"].as_array_mut().context("find the plans in the catalog")?;
    offered.extend_from_slice(plans);
    let text = serde_yaml::to_string(&document).context("write the catalog")?;
    fs::write(&catalog, text).context("write the catalog")?;
    Ok(copy)
}

/// Copy the documents of a release.
///
/// # Errors
/// One of them cannot be copied.
pub fn copy_documents(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).context("list the documents")? {
        let entry = entry.context("list the documents")?;
        // The BOSH release's own folder is none.
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))
                .with_context(|| format!("copy {:?}", entry.file_name()))?;
        }
    }
    Ok(())
}
