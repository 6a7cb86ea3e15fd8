//! One file: its last good state and what is wrong with it now.

use super::document::Documents;
use super::{LoadProblem, Loader, MAX_FILE_BYTES, substitute};
use crate::report::Severity;
use crate::world::{Body, Object, ObjectId, ObjectKind, Refusal};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Where an object stands in its file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub document: usize,
    /// Position in a List.
    pub item: Option<usize>,
    pub line: u64,
}

#[derive(Default)]
pub(super) struct File {
    /// Of the last good state.
    text: String,
    objects: Vec<(Object, Place)>,
    /// Problems of objects of that state.
    problems: Vec<LoadProblem>,
    /// Kinds that are not read, with the line of the first.
    foreign: Vec<(String, u64)>,
    /// Why what is there now is not taken over.
    broken: Option<LoadProblem>,
}

impl File {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = &(Object, Place)> {
        self.objects.iter()
    }

    pub(super) fn foreign(&self) -> impl Iterator<Item = &(String, u64)> {
        self.foreign.iter()
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = LoadProblem> {
        self.broken.iter().chain(&self.problems).cloned()
    }

    /// Takes the file over as it is now, or notes why not. Says whether there was anything new to take over.
    pub(super) fn read(&mut self, path: &Path, environment: &super::Environment) -> bool {
        self.broken = None;
        let text = match read(path) {
            Ok(text) => text,
            Err(message) => return self.keep(path, 1, &message),
        };
        if text == self.text {
            return false;
        }
        if text.trim().is_empty() && !self.objects.is_empty() {
            // Editors and copies empty a file before they fill it.
            return self.keep(path, 1, "is empty; remove the file to remove its objects");
        }
        let documents = match Documents::parse(&text) {
            Ok(documents) => documents,
            Err(e) => return self.keep(path, e.line, &e.message),
        };
        let mut next = Self {
            text,
            ..Self::default()
        };
        for (value, place) in documents.objects() {
            next.add(path, value, place, &documents, environment);
        }
        *self = next;
        true
    }

    fn keep(&mut self, path: &Path, line: u64, why: &str) -> bool {
        let serves = match self.objects.is_empty() {
            true => "",
            false => " (the last good state of the file serves on)",
        };
        self.broken = Some(LoadProblem {
            file: path.to_owned(),
            line,
            object: None,
            field: String::new(),
            severity: Severity::Error,
            message: format!("{why}{serves}"),
        });
        false
    }

    fn add(
        &mut self,
        path: &Path,
        mut value: Value,
        place: Place,
        documents: &Documents,
        environment: &super::Environment,
    ) {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
        let known = ObjectKind::of(&api_version, &kind);
        let is_our_group = api_version.split('/').next() == Some(crds::GROUP);
        if known.is_none() && !api_version.is_empty() && !kind.is_empty() {
            match is_our_group {
                // A file for `diolkos test`, not an object.
                true if kind == "RouteTest" => {}
                true => {
                    let kinds = crds::KINDS.join(", ");
                    let message =
                        format!("{kind} is no kind of {}: there are {kinds}", crds::GROUP);
                    let line = documents.line(&place, "kind");
                    self.problem(path, line, None, "kind", message);
                }
                false => self
                    .foreign
                    .push((format!("{kind} ({api_version})"), place.line)),
            }
            return;
        }
        let mut unset = Vec::new();
        if known == Some(ObjectKind::Secret) {
            unset = substitute::secret(&mut value, environment);
        }
        let object = match Object::from_json(&value) {
            Ok(Some(object)) => object,
            Ok(None) => return,
            Err(e) => return self.problem(path, place.line, None, "", e.to_string()),
        };
        let mut refusals: Vec<Refusal> = match Loader::admits(object.id.kind) {
            true => admission(&object.id, &api_version, &value),
            false => Vec::new(),
        };
        refusals.extend(unset.into_iter().map(|(key, name)| Refusal {
            field: format!("stringData.{key}"),
            message: format!("the environment variable {name} is not set"),
        }));
        if let (true, Some(unread)) = (refusals.is_empty(), object.body.refusals()) {
            refusals = unread.to_vec();
        }
        if refusals.is_empty() {
            self.objects.push((object, place));
            return;
        }
        for refusal in &refusals {
            let line = documents.line(&place, &refusal.field);
            let (field, message) = (refusal.field.as_str(), refusal.message.clone());
            self.problem(path, line, Some(&object.id), field, message);
        }
        let refused = match object.body {
            Body::RefusedPolicy(..) => object,
            _ => Object::refused(object.id, object.meta, refusals),
        };
        self.objects.push((refused, place));
    }

    fn problem(
        &mut self,
        path: &Path,
        line: u64,
        object: Option<&ObjectId>,
        field: &str,
        message: String,
    ) {
        self.problems.push(LoadProblem {
            file: path.to_owned(),
            line,
            object: object.cloned(),
            field: field.to_owned(),
            severity: Severity::Error,
            message,
        });
    }
}

/// What an API server with our definitions would refuse, and fields that it would silently drop.
fn admission(id: &ObjectId, api_version: &str, value: &Value) -> Vec<Refusal> {
    let ours = format!("{}/{}", crds::GROUP, crds::VERSION);
    if api_version != ours {
        return vec![Refusal {
            field: "apiVersion".to_owned(),
            message: format!("must be {ours}"),
        }];
    }
    let faults = crds::admission::check(id.kind.name(), value).into_iter();
    faults
        .map(|fault| Refusal {
            field: fault.path.to_string(),
            message: fault.message,
        })
        .collect()
}

fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    let mut bytes = Vec::new();
    let mut limited = file.take(MAX_FILE_BYTES + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {} MiB", MAX_FILE_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e
            .as_bytes()
            .iter()
            .take(good)
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        format!("is not UTF-8 (line {line})")
    })
}
