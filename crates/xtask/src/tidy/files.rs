//! Rust files that no crate compiles, and files that should be two.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::Package;

/// Lines that a file has at most, unless a program wrote it or it holds tests.
const MAX_LINES: usize = 700;

pub(super) fn check(root: &Path, package: &Package) -> anyhow::Result<Vec<String>> {
    let folder = Path::new(&package.manifest_path)
        .parent()
        .context("a manifest without folder")?;
    let mut compiled = BTreeSet::new();
    for target in &package.targets {
        let path = PathBuf::from(&target.src_path);
        let inside = path.parent().unwrap_or_else(|| Path::new("")).to_path_buf();
        follow(&path, &inside, &mut compiled);
    }
    let mut present = BTreeSet::new();
    collect(folder, &mut present)?;
    let mut faults = Vec::new();
    for path in &present {
        let shown = path
            .strip_prefix(root)
            .unwrap_or(path)
            .display()
            .to_string();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        if !compiled.contains(path) {
            faults.push(format!(
                "{shown}: no `mod` leads to this file, so it is never compiled"
            ));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES && !generated(&text) && !holds_tests(path) {
            faults.push(format!("{shown}: {lines} lines, at most {MAX_LINES} are allowed: it is about more than one thing"));
        }
    }
    Ok(faults)
}

/// A suite may be a long list of cases.
fn holds_tests(path: &Path) -> bool {
    let in_folder = path.components().any(|part| part.as_os_str() == "tests");
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    in_folder || stem == "tests" || stem.ends_with("_tests")
}

fn generated(text: &str) -> bool {
    text.lines().take(5).any(|line| line.contains("@generated"))
}

/// All Rust files below a folder, except in folders that are crates of their own or hold build output.
fn collect(folder: &Path, into: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.') || name == "target");
            if !hidden && !path.join("Cargo.toml").exists() {
                collect(&path, into)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.insert(path);
        }
    }
    Ok(())
}

/// Adds a file and all that its `mod` lines lead to. `inside` is the folder of its modules.
fn follow(path: &Path, inside: &Path, compiled: &mut BTreeSet<PathBuf>) {
    if !compiled.insert(path.to_path_buf()) {
        return;
    }
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let own = path.parent().unwrap_or_else(|| Path::new(""));
    for module in modules(&text) {
        match module {
            Module::At(file) => {
                let file = beside(own, &file);
                let inside = file.parent().unwrap_or(own).to_path_buf();
                follow(&file, &inside, compiled);
            }
            Module::Named(name) => {
                let folder = inside.join(&name);
                let file = inside.join(format!("{name}.rs"));
                let file = if file.exists() {
                    file
                } else {
                    folder.join("mod.rs")
                };
                if file.exists() {
                    follow(&file, &folder, compiled);
                }
            }
        }
    }
}

/// A path as it stands in a file of this folder, without the steps up that it may begin with.
fn beside(folder: &Path, file: &str) -> PathBuf {
    let (mut folder, mut file) = (folder, file);
    while let (Some(rest), Some(parent)) = (file.strip_prefix("../"), folder.parent()) {
        (folder, file) = (parent, rest);
    }
    folder.join(file)
}

#[derive(Debug, PartialEq, Eq)]
enum Module {
    /// `mod name;`
    Named(String),
    /// `#[path = "file"] mod name;` or `include!("file")`
    At(String),
}

/// The modules that a file declares in other files.
fn modules(text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        let quoted = |start: &str| Some(line.strip_prefix(start)?.split('"').next()?.to_owned());
        if let Some(file) = quoted("#[path = \"") {
            path = Some(file);
        } else if let Some(file) = quoted("include!(\"") {
            found.push(Module::At(file));
        } else if let Some(name) = declared(line) {
            found.push(
                path.take()
                    .map_or_else(|| Module::Named(name.to_owned()), Module::At),
            );
        } else if !line.is_empty() && !line.starts_with("#[") && !line.starts_with("//") {
            path = None;
        }
    }
    found
}

/// The name in `mod name;` with any visibility.
fn declared(line: &str) -> Option<&str> {
    let rest = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1,
        Some(rest) => rest,
        None => line,
    };
    let name = rest
        .trim_start()
        .strip_prefix("mod ")?
        .split_once(';')?
        .0
        .trim();
    let name = name.strip_prefix("r#").unwrap_or(name);
    name.chars()
        .all(|c| c.is_alphanumeric() || c == '_')
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_modules() {
        let text = "mod a;\npub mod b; // why\npub(crate) mod c;\nmod d {\n}\n// mod e;\n#[cfg(test)]\n#[path = \"x/f.rs\"]\nmod f;\nmod g;\ninclude!(\"h.rs\");\n";
        let named = |name: &str| Module::Named(name.to_owned());
        let at = |file: &str| Module::At(file.to_owned());
        assert_eq!(
            modules(text),
            [
                named("a"),
                named("b"),
                named("c"),
                at("x/f.rs"),
                named("g"),
                at("h.rs")
            ]
        );
    }

    #[test]
    fn every_file_of_this_crate_is_found() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut compiled, mut present) = (BTreeSet::new(), BTreeSet::new());
        follow(&folder.join("main.rs"), &folder, &mut compiled);
        collect(&folder, &mut present).unwrap();
        assert_eq!(compiled, present);
    }

    #[test]
    fn a_path_may_climb() {
        let folder = Path::new("/src/table/pick");
        assert_eq!(beside(folder, "x.rs"), folder.join("x.rs"));
        assert_eq!(
            beside(folder, "../../tests/pick.rs"),
            Path::new("/src/tests/pick.rs")
        );
    }

    #[test]
    fn what_a_program_wrote_may_be_long() {
        assert!(generated("// @generated by prost-build\n"));
        assert!(!generated("//! By hand.\n"));
    }
}
