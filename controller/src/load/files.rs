//! Which files of a directory are read.

use super::{LoadProblem, MAX_FILES};
use crate::report::Severity;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Directories below one root.
const MAX_DEPTH: usize = 32;

/// All manifests below the roots, sorted within each root, each once. Names that begin with a dot are skipped: with
/// them go the `..data` directories of mounted ConfigMaps, whose files are seen through their links.
pub(super) fn find(roots: &[PathBuf]) -> (Vec<PathBuf>, Vec<LoadProblem>) {
    let mut walk = Walk::default();
    for root in roots {
        match std::fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => walk.directory(root, 0),
            Ok(_) => walk.file(root.clone()),
            Err(e) => walk.problem(root, format!("cannot be read: {e}")),
        }
    }
    (walk.files, walk.problems)
}

#[derive(Default)]
struct Walk {
    files: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
    /// Real paths of the directories on the way down, against links that lead back up.
    above: Vec<PathBuf>,
    problems: Vec<LoadProblem>,
}

impl Walk {
    fn directory(&mut self, path: &Path, depth: usize) {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(e) => return self.problem(path, format!("cannot be read: {e}")),
        };
        if self.above.contains(&real) {
            return self.problem(path, "links back to a directory above it".into());
        }
        if depth > MAX_DEPTH {
            let message = format!("is more than {MAX_DEPTH} directories deep: it is not read");
            return self.problem(path, message);
        }
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) => return self.problem(path, format!("cannot be listed: {e}")),
        };
        let mut names = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => names.push(entry.file_name()),
                Err(e) => self.problem(path, format!("cannot be listed: {e}")),
            }
        }
        names.sort();
        self.above.push(real);
        for name in names {
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = path.join(name);
            // Links are followed; one that leads nowhere is as if it were not there.
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.directory(&path, depth + 1),
                Ok(metadata) if metadata.is_file() && is_manifest(&path) => self.file(path),
                _ => {}
            }
        }
        self.above.pop();
    }

    fn file(&mut self, path: PathBuf) {
        if self.files.len() >= MAX_FILES {
            if self.files.len() == self.seen.len() {
                self.seen.insert(PathBuf::new());
                self.problem(
                    &path,
                    format!("more than {MAX_FILES} files: the rest is not read"),
                );
            }
            return;
        }
        if self.seen.insert(path.clone()) {
            self.files.push(path);
        }
    }

    fn problem(&mut self, path: &Path, message: String) {
        self.problems.push(LoadProblem {
            file: path.to_owned(),
            line: 1,
            object: None,
            field: String::new(),
            severity: Severity::Error,
            message,
        });
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| matches!(e, "yaml" | "yml" | "json"))
}
