//! From a directory of manifests to objects, with the admission that a cluster would apply.
//!
//! Everything that is wrong is reported at once with `FILE:LINE`, and nothing that is wrong hurts its neighbours: a
//! file that cannot be read or parsed keeps its last good state, an object that admission refuses keeps its last good
//! version (it is loaded as refused, and translation lets the accepted version serve on).

mod document;
mod file;
mod files;
mod substitute;

#[cfg(test)]
mod many_rules_tests;
#[cfg(test)]
mod tests;

use crate::report::Severity;
use crate::world::{Object, ObjectId, ObjectKind};
use document::Documents;
use file::{File, Place};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Objects that are read from all directories together.
pub const MAX_OBJECTS: usize = 100_000;
/// Bytes of one file.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// Readings in a row while each finds something new; what is written then is the next event's.
const MAX_READINGS: usize = 4;
/// Files that are read.
pub const MAX_FILES: usize = 10_000;

/// Something wrong with a file or with an object in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoadProblem {
    pub file: PathBuf,
    /// From 1.
    pub line: u64,
    /// `None`: the file as a whole, or something that is not an object.
    pub object: Option<ObjectId>,
    /// Such as `spec.rules[0].backends`; empty for the object as a whole.
    pub field: String,
    pub severity: Severity,
    pub message: String,
}

/// `FILE:LINE KIND NAMESPACE/NAME FIELD: message`
impl fmt::Display for LoadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)?;
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
        }
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What the directories hold now.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Each identity once; refused versions among them.
    pub objects: Vec<Object>,
    /// By file and line.
    pub problems: Vec<LoadProblem>,
    /// Kinds that are not read, each once.
    pub notes: Vec<String>,
}

/// Gives the value of an environment variable.
type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Reads directories again and again, and remembers the last good state of each file.
pub struct Loader {
    roots: Vec<PathBuf>,
    environment: Environment,
    files: BTreeMap<PathBuf, File>,
    places: BTreeMap<ObjectId, (PathBuf, Place)>,
    /// The file that was last looked into for a line.
    parsed: Mutex<Option<(PathBuf, Documents)>>,
}

impl Loader {
    /// Reads these directories (or single files), in this order.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self::with_environment(roots, |name| std::env::var(name).ok())
    }

    /// The same with another source for `${NAME}`.
    pub fn with_environment(
        roots: Vec<PathBuf>,
        environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            roots,
            environment: Box::new(environment),
            files: BTreeMap::new(),
            places: BTreeMap::new(),
            parsed: Mutex::new(None),
        }
    }

    /// Reads what has changed since the last call. What was written in an order is never seen in another: a reading
    /// that finds something new may have missed what was written before that, so all is read again until nothing is
    /// new.
    pub fn load(&mut self) -> Loaded {
        let mut loaded = Loaded::default();
        for _ in 0..MAX_READINGS {
            loaded = Loaded::default();
            if !self.read(&mut loaded) {
                break;
            }
        }
        self.collect(&mut loaded);
        loaded.problems.sort();
        loaded
    }

    /// One reading of everything; says whether it found anything new.
    fn read(&mut self, loaded: &mut Loaded) -> bool {
        let (paths, problems) = files::find(&self.roots);
        loaded.problems.extend(problems);
        let present: BTreeSet<&PathBuf> = paths.iter().collect();
        // A directory that cannot be listed hides its files; only what was seen to be gone is gone.
        let unlisted: Vec<PathBuf> = loaded.problems.iter().map(|p| p.file.clone()).collect();
        self.files.retain(|path, _| {
            present.contains(path) || unlisted.iter().any(|dir| path.starts_with(dir))
        });
        let mut found = false;
        for path in &paths {
            let file = self.files.entry(path.clone()).or_default();
            found |= file.read(path, &self.environment);
        }
        found
    }

    fn collect(&mut self, loaded: &mut Loaded) {
        self.places.clear();
        *self.parsed.lock() = None;
        let mut noted = BTreeSet::new();
        let mut too_many = false;
        for (path, file) in &self.files {
            loaded.problems.extend(file.problems());
            for (kind, line) in file.foreign() {
                if noted.insert(kind.clone()) {
                    let note = format!("{}:{line}: {kind} is not read", path.display());
                    loaded.notes.push(note);
                }
            }
            for (object, place) in file.objects() {
                let id = &object.id;
                if let Some((first, _)) = self.places.get(id) {
                    let (file, line) = (path.clone(), place.line);
                    let message = format!("is also in {}; that one counts", first.display());
                    loaded.problems.push(LoadProblem {
                        file,
                        line,
                        object: Some(id.clone()),
                        field: String::new(),
                        severity: Severity::Error,
                        message,
                    });
                    continue;
                }
                if loaded.objects.len() >= MAX_OBJECTS {
                    if !std::mem::replace(&mut too_many, true) {
                        loaded.problems.push(LoadProblem {
                            file: path.clone(),
                            line: place.line,
                            object: None,
                            field: String::new(),
                            severity: Severity::Error,
                            message: format!(
                                "more than {MAX_OBJECTS} objects: the rest is not read"
                            ),
                        });
                    }
                    continue;
                }
                self.places
                    .insert(id.clone(), (path.clone(), place.clone()));
                loaded.objects.push(object.clone());
            }
        }
    }

    /// Where a field of an object stands; of a field that is not there, the nearest one around it.
    pub fn locate(&self, id: &ObjectId, field: &str) -> Option<(PathBuf, u64)> {
        let (path, place) = self.places.get(id)?;
        let mut parsed = self.parsed.lock();
        if parsed.as_ref().is_none_or(|(of, _)| of != path) {
            let text = self.files.get(path)?.text();
            *parsed = Documents::parse(text)
                .ok()
                .map(|documents| (path.clone(), documents));
        }
        let line = match parsed.as_ref() {
            Some((_, documents)) => documents.line(place, field),
            None => place.line,
        };
        Some((path.clone(), line))
    }

    /// A problem of translation with its place. `None` for problems of refused versions, which the loader has
    /// reported itself, and of objects that stand in no file.
    pub fn place(&self, problem: &crate::report::Problem, refused: bool) -> Option<LoadProblem> {
        if refused {
            return None;
        }
        let (file, line) = self.locate(&problem.origin, &problem.field)?;
        Some(LoadProblem {
            file,
            line,
            object: Some(problem.origin.clone()),
            field: problem.field.clone(),
            severity: problem.severity,
            message: problem.message.clone(),
        })
    }

    /// Whether the kind is judged by our own schemas.
    fn admits(kind: ObjectKind) -> bool {
        kind.is_ours()
    }

    /// The directories and files that are read.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(PathBuf::as_path)
    }
}
