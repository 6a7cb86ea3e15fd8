use super::*;

fn report(problems: Vec<Problem>) -> ObjectReport {
    ObjectReport::new(ObjectId::new(ObjectKind::Upstream, "a", "b"), 3, problems)
}

fn problem(reason: Reason, severity: Severity) -> Problem {
    Problem {
        origin: ObjectId::new(ObjectKind::Upstream, "a", "b"),
        field: "spec.x".into(),
        reason,
        severity,
        message: "is wrong".into(),
    }
}

fn of<'a>(conditions: &'a [Condition], type_: &str) -> &'a Condition {
    conditions.iter().find(|c| c.type_ == type_).unwrap()
}

#[test]
fn an_error_turns_its_condition_and_ready() {
    let report = report(vec![problem(Reason::BackendNotFound, Severity::Error)]);
    let all = conditions(&report, &[], &Programmed::Yes);
    assert_eq!(of(&all, "Accepted").status, "True");
    let refs = of(&all, "ResolvedRefs");
    assert_eq!((refs.status, refs.reason), ("False", "BackendNotFound"));
    assert_eq!(refs.message, "spec.x: is wrong");
    assert_eq!(of(&all, "Ready").reason, "BackendNotFound");
    assert!(
        all.iter()
            .all(|c| c.observed_generation == 3 && c.type_ != "Quarantined")
    );
}

#[test]
fn a_warning_is_said_and_turns_nothing() {
    let report = report(vec![problem(Reason::NotBuilt, Severity::Warning)]);
    let all = conditions(&report, &[], &Programmed::Yes);
    assert_eq!(of(&all, "Accepted").message, "spec.x: is wrong");
    assert!(all.iter().all(|c| c.status == "True"));
}

#[test]
fn quarantine_says_what_serves() {
    let mut report = report(vec![problem(Reason::Invalid, Severity::Error)]);
    report.quarantined = true;
    let all = conditions(&report, &[], &Programmed::Yes);
    assert_eq!(of(&all, "Quarantined").reason, "Invalid");
    assert_eq!(of(&all, "Programmed").status, "False");
    assert_eq!(of(&all, "Ready").status, "False");
}

/// An older version serves everywhere where all went back to it, and only there.
#[test]
fn what_one_data_plane_goes_without_is_not_quarantined() {
    let of_type = |programmed: &Programmed, type_: &str| {
        let all = conditions(&report(Vec::new()), &[], programmed);
        all.into_iter().find(|c| c.type_ == type_)
    };
    let words = "data plane x refuses it: no";
    let lacking = Programmed::Lacking(words.into());
    assert_eq!(of_type(&lacking, "Quarantined"), None);
    for type_ in ["Programmed", "Ready"] {
        let condition = of_type(&lacking, type_).unwrap();
        assert_eq!((condition.status, &*condition.message), ("False", words));
    }
    let quarantined = of_type(&Programmed::Rejected("no".into()), "Quarantined");
    assert_eq!(
        quarantined.unwrap().message,
        "what data planes accepted last serves in place of this version"
    );
}

#[test]
fn programmed_follows_the_data_planes() {
    for (programmed, status, reason) in [
        (Programmed::Yes, "True", "Programmed"),
        (Programmed::Pending, "False", "Pending"),
        (Programmed::NoDataPlane, "False", "NoDataPlane"),
        (
            Programmed::Rejected("no".into()),
            "False",
            "RejectedByDataPlane",
        ),
        (Programmed::TooOld("x".into()), "False", "DataPlaneTooOld"),
        (Programmed::Unknown, "Unknown", "Pending"),
    ] {
        let all = conditions(&report(Vec::new()), &[], &programmed);
        let c = of(&all, "Programmed");
        assert_eq!((c.status, c.reason), (status, reason));
    }
}

/// What applies in place of what data planes have refused is not known.
#[test]
fn what_is_in_effect_is_not_said_of_what_was_refused() {
    let plugin = EffectivePlugin {
        stage: Stage::PreRequest,
        priority: 1,
        name: "p".into(),
        from: "route/b".into(),
    };
    let id = ObjectId::new(ObjectKind::Route, "a", "b");
    let report = ObjectReport {
        effective: vec![plugin],
        ..ObjectReport::new(id, 3, Vec::new())
    };
    let effective = |programmed: &Programmed| {
        let mut status = report.status(&programmed.into()).unwrap();
        status["effective"].take()
    };
    let plugins = json!({"plugins": [{"stage": "PreRequest", "name": "p", "from": "route/b"}]});
    assert_eq!(effective(&Programmed::Yes), plugins);
    assert_eq!(effective(&Programmed::Rejected("no".into())), Value::Null);
}

#[test]
fn long_messages_are_cut_at_a_character() {
    let cut = limit("ä".repeat(5000));
    assert!(cut.len() <= 4100 && cut.ends_with('…'));
}
