//! Commands that look and change nothing: validate, translate, crds.

use anyhow::{Context, Result};
use controller::load::LoadProblem;
use controller::report::{Findings, Programmed, Severity};
use controller::standalone::check;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes to standard output; a reader that has gone, such as `head`, is no error.
pub(crate) fn print(text: &str) -> Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) => Err(e).context("cannot write to standard output"),
    }
}

pub(crate) fn validate(dirs: &[PathBuf]) -> Result<ExitCode> {
    let checked = check(dirs);
    let lines: String = checked.problems.iter().map(|p| format!("{p}\n")).collect();
    print(&lines)?;
    for note in &checked.notes {
        eprintln!("note: {note}");
    }
    let errors = errors(&checked.problems);
    eprintln!(
        "{errors} errors, {} warnings",
        checked.problems.len() - errors
    );
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(crate) fn translate(dirs: &[PathBuf]) -> Result<ExitCode> {
    let checked = check(dirs);
    print_problems(&checked.problems);
    let status = checked.translation.report.statuses(
        |_| Programmed::NoDataPlane,
        &Findings::default(),
        &checked.translation.resources,
    );
    let document =
        serde_json::json!({"model": checked.translation.resources.model(), "status": status});
    print(&serde_saphyr::to_string(&document).context("cannot write YAML")?)?;
    Ok(if errors(&checked.problems) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where the answer itself goes to standard output.
pub(crate) fn print_problems(problems: &[LoadProblem]) {
    for problem in problems {
        eprintln!("{problem}");
    }
}

fn errors(problems: &[LoadProblem]) -> usize {
    problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .count()
}

pub(crate) fn crds() -> Result<ExitCode> {
    let mut all = String::new();
    for definition in crds::all() {
        let kind = &definition.spec.names.kind;
        all.push_str("---\n");
        all.push_str(&crds::yaml(kind).with_context(|| format!("{kind} has no YAML"))?);
    }
    print(&all)
}
