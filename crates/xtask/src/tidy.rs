//! Checks.
use std::path::Path;
pub(crate) fn run(_root: &Path) -> anyhow::Result<Vec<String>> {
    Ok(Vec::new())
}
