//! Every case of `cases/` that runs in standalone mode, by name: `make cases CASE=NAME`.

use diolkos_e2e::case::{self, Mode};
use diolkos_e2e::standalone::Standalone;
use diolkos_e2e::{disruption, ingress, peers, runner, secrets};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> anyhow::Result<()> {
    let mut trials: Vec<Trial> = case::all(Mode::Standalone)?
        .into_iter()
        .map(|case| {
            Trial::test(case.name.clone(), move || {
                let mut gateway = Standalone::new().map_err(Failed::from)?;
                runner::run(&case, &mut gateway).map_err(|e| Failed::from(format!("{e:#}")))
            })
        })
        .collect();
    trials.push(Trial::test("edit_under_load", || {
        disruption::edit_under_load(&mut Standalone::new()?)
            .map_err(|e| Failed::from(format!("{e:#}")))
    }));
    trials.push(Trial::test("peer_websocket", || {
        peers::websocket().map_err(|e| Failed::from(format!("{e:#}")))
    }));
    trials.push(Trial::test("peer_grpc_route", || {
        peers::grpc_route().map_err(|e| Failed::from(format!("{e:#}")))
    }));
    trials.push(Trial::test("peer_grpc_web", || {
        peers::grpc_web().map_err(|e| Failed::from(format!("{e:#}")))
    }));
    type Test = fn() -> anyhow::Result<()>;
    let secrets: [(&str, Test); 3] = [
        ("ingress_tls", ingress::tls),
        ("certificates_of_secrets", secrets::certificates_of_secrets),
        ("values_are_never_seen", secrets::values_are_never_seen),
    ];
    trials.extend(secrets.map(|(name, run)| {
        Trial::test(name, move || {
            run().map_err(|e| Failed::from(format!("{e:#}")))
        })
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
