//! Files that are made from code or from other files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// Helm reads what is in a chart's own folder alone: copies of what is installed without it.
const COPIES: [(&str, &str); 5] = [
    (
        "deploy/manifests/11-cluster-role.yaml",
        "charts/diolkos/files/cluster-role.yaml",
    ),
    (
        "deploy/manifests/12-cluster-role-secrets.yaml",
        "charts/diolkos/files/cluster-role-secrets.yaml",
    ),
    (
        "deploy/secrets/role.yaml",
        "charts/diolkos/files/role-secrets.yaml",
    ),
    (
        "deploy/namespaced/cluster-roles.yaml",
        "charts/diolkos/files/namespaced.yaml",
    ),
    (
        "deploy/admission/policies.yaml",
        "charts/diolkos/files/policies.yaml",
    ),
];
/// Folders that hold nothing else.
const FOLDERS: [&str; 3] = [
    "crds/yaml",
    "charts/diolkos/files",
    "charts/diolkos-crds/files",
];

/// Writes every file that is not up to date, and removes those that are made no longer.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let files = files(root)?;
    for stale in differing(root, &files)? {
        let path = root.join(&stale);
        match files.get(&stale) {
            Some(text) => {
                fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", stale.display()))?;
                println!("wrote {}", stale.display());
            }
            None => {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", stale.display()))?;
                println!("removed {}", stale.display());
            }
        }
    }
    Ok(())
}

/// What `cargo xtask gen` would change, one sentence each.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let stale = differing(root, &files(root)?)?;
    let said = stale.iter().map(|path| {
        let path = path.display();
        format!("{path}: not what it is made from: run `cargo xtask gen`")
    });
    Ok(said.collect())
}

/// Every file with what belongs in it, by its path below the root.
fn files(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for crd in crds::all() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let text = crds::yaml(&crd.spec.names.kind).context("a kind without YAML")?;
        files.insert(
            Path::new("charts/diolkos-crds/files").join(&name),
            text.clone(),
        );
        files.insert(Path::new("crds/yaml").join(name), text);
    }
    for (from, to) in COPIES {
        let text = fs::read_to_string(root.join(from));
        let text = text.with_context(|| format!("cannot read {from}"))?;
        files.insert(to.into(), text);
    }
    Ok(files)
}

/// Files that hold something else than they should, are missing, or should not be there.
fn differing(root: &Path, files: &BTreeMap<PathBuf, String>) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut stale = BTreeSet::new();
    for (path, text) in files {
        if !fs::read_to_string(root.join(path)).is_ok_and(|old| old == *text) {
            stale.insert(path.clone());
        }
    }
    for folder in FOLDERS {
        let entries = fs::read_dir(root.join(folder));
        for entry in entries.with_context(|| format!("cannot read {folder}"))? {
            let path = Path::new(folder).join(entry?.file_name());
            if !files.contains_key(&path) {
                stale.insert(path);
            }
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_changed_or_left_over_is_named() {
        let root = std::env::temp_dir().join(format!("xtask-generate-{}", std::process::id()));
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let path = |name: &str| PathBuf::from("crds/yaml").join(name);
        let files: BTreeMap<_, _> = ["same", "changed", "missing"]
            .map(|name| (path(name), "new".to_owned()))
            .into();
        for (name, text) in [("same", "new"), ("changed", "old"), ("left-over", "old")] {
            fs::write(root.join(path(name)), text).unwrap();
        }
        let found = differing(&root, &files).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, ["changed", "left-over", "missing"].map(path).into());
    }
}
