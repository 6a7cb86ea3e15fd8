//! What the compiler does not check: who may depend on whom, files that nobody compiles, files that grew too long.

mod dependencies;
mod files;

use std::{path::Path, process::Command};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// The part of `cargo metadata` that the checks read.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    #[serde(default)]
    targets: Vec<Target>,
    #[serde(default)]
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Target {
    src_path: String,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for an ordinary dependency.
    kind: Option<String>,
}

/// Everything that is to be mended, one sentence each.
pub(crate) fn run(root: &Path) -> anyhow::Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cannot read cargo metadata")?;
    let mut faults = dependencies::check(&metadata);
    for package in &metadata.packages {
        faults.extend(files::check(root, package)?);
    }
    Ok(faults)
}
