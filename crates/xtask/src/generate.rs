//! Files that are made from code.

use std::{fs, path::Path};

use anyhow::Context;

/// Writes `crds/yaml/<plural>.yaml` for every kind. Files that are up to date are not touched.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    for crd in crds::all() {
        let path = root
            .join("crds/yaml")
            .join(format!("{}.yaml", crd.spec.names.plural));
        let text = crds::yaml(&crd.spec.names.kind).context("a kind without YAML")?;
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!(
            "wrote {}",
            path.strip_prefix(root).unwrap_or(&path).display()
        );
    }
    Ok(())
}
