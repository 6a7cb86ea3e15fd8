//! The same cases on the rig: `scripts/rig.sh cases NAME`. Anywhere else they are reported as ignored.

use diolkos_e2e::case::{self, Mode};
use diolkos_e2e::cluster::{self, Cluster};
use diolkos_e2e::{
    admission, data_planes, disruption, ingress, operator, rollback, runner, statuses,
};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> anyhow::Result<()> {
    let obstacle = cluster::obstacle();
    if let Some(reason) = &obstacle {
        eprintln!("cluster cases are ignored: {reason}");
    }
    let mut trials: Vec<Trial> = case::all(Mode::Cluster)?
        .into_iter()
        .map(|case| {
            Trial::test(case.name.clone(), move || {
                let mut gateway = Cluster::new().map_err(Failed::from)?;
                runner::run(&case, &mut gateway).map_err(|e| Failed::from(format!("{e:#}")))
            })
            .with_ignored_flag(obstacle.is_some())
        })
        .collect();
    type Test = fn(&mut Cluster) -> anyhow::Result<()>;
    let tests: [(&str, Test); 13] = [
        ("admission_policies", admission::policies),
        ("admission_webhook", admission::webhook),
        ("rollback", rollback::rollback),
        ("ingress_status", ingress::status),
        ("entries_of_others_stay", statuses::entries_of_others_stay),
        (
            "a_class_outlives_its_gateways",
            operator::a_class_outlives_its_gateways,
        ),
        (
            "what_is_deleted_comes_back",
            operator::what_is_deleted_comes_back,
        ),
        (
            "a_gateway_config_with_data_planes_of_its_own",
            data_planes::of_its_own,
        ),
        ("edit_under_load", |cluster| {
            disruption::edit_under_load(cluster)
        }),
        ("scale_under_load", disruption::scale_under_load),
        (
            "controller_killed_under_load",
            disruption::controller_killed_under_load,
        ),
        (
            "leader_killed_under_load",
            disruption::leader_killed_under_load,
        ),
        (
            "data_plane_restarts_alone",
            disruption::data_plane_restarts_alone,
        ),
    ];
    trials.extend(tests.map(|(name, run)| {
        Trial::test(name, move || {
            run(&mut Cluster::new()?).map_err(|e| Failed::from(format!("{e:#}")))
        })
        .with_ignored_flag(obstacle.is_some())
    }));
    // One after the other: routes for any host would be seen by their neighbours.
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    libtest_mimic::run(&arguments, trials).exit();
}
