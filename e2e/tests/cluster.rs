//! The same cases on the rig: `scripts/rig.sh cases NAME`. Anywhere else they are reported as ignored.

use diolkos_e2e::case::{self, Mode};
use diolkos_e2e::cluster::{self, Cluster};
use diolkos_e2e::runner;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> anyhow::Result<()> {
    let obstacle = cluster::obstacle();
    if let Some(reason) = &obstacle {
        println!("cluster cases are ignored: {reason}");
    }
    let trials = case::all(Mode::Cluster)?
        .into_iter()
        .map(|case| {
            Trial::test(case.name.clone(), move || {
                let mut gateway = Cluster::new().map_err(Failed::from)?;
                runner::run(&case, &mut gateway).map_err(|e| Failed::from(format!("{e:#}")))
            })
            .with_ignored_flag(obstacle.is_some())
        })
        .collect();
    // One after the other: routes for any host would be seen by their neighbours.
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    libtest_mimic::run(&arguments, trials).exit();
}
