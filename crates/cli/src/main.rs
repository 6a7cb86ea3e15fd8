//! `diolkos`: run the gateway from a directory of manifests, and look at what it would do before it does it.

mod explain;
mod inspect;
mod revisions;
mod run;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Gives memory that is not needed any more back to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Ingress controller and AI gateway for Kubernetes, on a laptop as in a cluster.
#[derive(Parser)]
#[command(name = "diolkos", version, propagate_version = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the manifests in a directory: controller and data plane in one process, reloaded on change
    Run(run::Args),
    /// Check manifests: one line a problem, exit status 1 if there is an error
    Validate {
        /// Directories or files of manifests
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
    /// Print the model that the manifests make, and the status of each object, as YAML
    Translate {
        /// Directories or files of manifests
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
    /// Tell what would happen to a request, and why
    Explain(explain::Args),
    /// List the configurations that a controller remembers, the newest first: what changed when
    Revisions(revisions::Address),
    /// Hold the configuration as it was at a revision, or follow the cluster again
    Rollback(revisions::Rollback),
    /// Print the CustomResourceDefinitions, for `kubectl apply --server-side -f -`
    Crds,
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(args) => run::run(args),
        Command::Validate { dirs } => inspect::validate(&dirs),
        Command::Translate { dirs } => inspect::translate(&dirs),
        Command::Explain(args) => explain::explain(&args),
        Command::Revisions(address) => revisions::list(&address),
        Command::Rollback(args) => revisions::roll_back(&args),
        Command::Crds => inspect::crds(),
        Command::Version => inspect::print(concat!("diolkos ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("diolkos: {error:#}");
            ExitCode::from(2)
        }
    }
}
