//! Generators and checks of the repository: `cargo xtask gen`, `cargo xtask tidy`.

mod generate;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Generators and checks of the repository")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the files that are made from code or from other files: crds/yaml, and what is copied into charts
    Gen,
    /// Checks the direction of dependencies, orphaned files, the size of files and generated ones
    Tidy,
}

fn main() -> anyhow::Result<ExitCode> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    match Arguments::parse().command {
        Command::Gen => generate::run(&root).map(|()| ExitCode::SUCCESS),
        Command::Tidy => {
            let mut faults = tidy::run(&root)?;
            faults.extend(generate::check(&root)?);
            for fault in &faults {
                eprintln!("{fault}");
            }
            if faults.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            eprintln!("tidy: {} to mend", faults.len());
            Ok(ExitCode::FAILURE)
        }
    }
}
