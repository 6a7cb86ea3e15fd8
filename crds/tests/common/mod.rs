//! The corpus: objects that must be refused and objects that must be accepted, everywhere alike.

use std::{fs, path::Path};

use serde_json::Value;

/// One object of the corpus.
pub(crate) struct Sample {
    pub(crate) file: String,
    pub(crate) object: Value,
    /// The field that a refusal must name; empty in good ones.
    pub(crate) field: String,
    /// Words that a refusal must contain, wherever it comes from.
    pub(crate) says: Option<String>,
}

impl Sample {
    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap()
    }
}

/// Reads `tests/<folder>/*.yaml` in the order of their names.
pub(crate) fn samples(folder: &str) -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let comment = |key: &str| {
                text.lines()
                    .find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
            };
            Sample {
                file: path.file_name().unwrap().to_string_lossy().into_owned(),
                object: serde_saphyr::from_str(&text)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
                field: comment("# field:").unwrap_or_default(),
                says: comment("# says:"),
            }
        })
        .collect()
}
