//! Every case of `cases/` that runs in standalone mode, by name: `cargo test -p diolkos-e2e --test standalone -- NAME`.

use diolkos_e2e::case::{self, Mode};
use diolkos_e2e::runner;
use diolkos_e2e::standalone::Standalone;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> anyhow::Result<()> {
    let trials = case::all(Mode::Standalone)?
        .into_iter()
        .map(|case| {
            Trial::test(case.name.clone(), move || {
                let mut gateway = Standalone::new().map_err(Failed::from)?;
                runner::run(&case, &mut gateway).map_err(|e| Failed::from(format!("{e:#}")))
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
