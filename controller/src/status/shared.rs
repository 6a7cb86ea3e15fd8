//! Statuses in which several controllers have their entries: the lists are atomic, so that who writes one writes all of it.

use serde_json::{Map, Value};

use super::imprint::content;
use crate::report::CONTROLLER_NAME;
use crate::world::ObjectKind;

/// A list of a status that controllers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedList {
    pub name: &'static str,
    /// As many entries fit, of all controllers together.
    pub most: usize,
}

/// The list of a kind; `None`: the status is one controller's alone.
pub(super) fn shared_list(kind: ObjectKind) -> Option<SharedList> {
    match kind {
        kind if kind.is_gateway_api_route() => Some(SharedList {
            name: "parents",
            most: 32,
        }),
        ObjectKind::BackendTLSPolicy => Some(SharedList {
            name: "ancestors",
            most: 16,
        }),
        _ => None,
    }
}

/// What of the status of an object in a cluster is ours.
pub(crate) fn ours(kind: ObjectKind, mut status: Option<Value>) -> Option<Value> {
    let Some(list) = shared_list(kind) else {
        return status.filter(|_| kind.has_status());
    };
    let entries = status.as_mut().and_then(|status| status.get_mut(list.name));
    let mut ours = match entries.map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    ours.retain(is_ours);
    Some(Value::Object(Map::from_iter([(
        list.name.to_owned(),
        Value::Array(ours),
    )])))
}

fn is_ours(entry: &Value) -> bool {
    entry.get("controllerName").and_then(Value::as_str) == Some(CONTROLLER_NAME)
}

/// The whole list with our entries replaced by those of `status`; `None` when it says the same already. Entries of
/// others stay as they are, also where that leaves no room for all of ours.
pub(super) fn replaced(list: SharedList, present: &Value, status: &Value) -> Option<Vec<Value>> {
    let entries = |of: &Value| of.get(list.name).and_then(Value::as_array).cloned();
    let (ours, theirs): (Vec<Value>, Vec<Value>) = entries(present)
        .unwrap_or_default()
        .into_iter()
        .partition(is_ours);
    let mut wanted = entries(status).unwrap_or_default();
    wanted.truncate(list.most.saturating_sub(theirs.len()));
    if content(&Value::from(ours)) == content(&Value::from(wanted.clone())) {
        return None;
    }
    Some(theirs.into_iter().chain(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LIST: SharedList = SharedList {
        name: "parents",
        most: 4,
    };

    fn entry(controller: &str, parent: &str) -> Value {
        json!({"controllerName": controller, "parentRef": {"name": parent}, "future": 1})
    }

    #[test]
    fn entries_of_others_stay_as_they_are() {
        let others = entry("example.com/other", "x");
        let present = json!({"parents": [entry(CONTROLLER_NAME, "old"), others]});
        let status = json!({"parents": [entry(CONTROLLER_NAME, "new")]});
        let all = replaced(LIST, &present, &status).unwrap();
        assert_eq!(all, [others.clone(), entry(CONTROLLER_NAME, "new")]);
        let gone = replaced(LIST, &present, &json!({"parents": []})).unwrap();
        assert_eq!(gone, [others]);
    }

    #[test]
    fn what_is_there_is_not_written_again() {
        let mut present = entry(CONTROLLER_NAME, "a");
        present["conditions"] = json!([{"type": "Accepted", "lastTransitionTime": "then"}]);
        let mut wanted = present.clone();
        wanted["conditions"][0]["lastTransitionTime"] = "now".into();
        let (present, wanted) = (json!({"parents": [present]}), json!({"parents": [wanted]}));
        assert_eq!(replaced(LIST, &present, &wanted), None);
        assert_eq!(replaced(LIST, &Value::Null, &json!({"parents": []})), None);
    }

    #[test]
    fn others_are_not_pushed_out_of_a_full_list() {
        let theirs: Vec<Value> = (0..3)
            .map(|n| entry("example.com/other", &n.to_string()))
            .collect();
        let ours: Vec<Value> = (0..3)
            .map(|n| entry(CONTROLLER_NAME, &n.to_string()))
            .collect();
        let all = replaced(LIST, &json!({"parents": theirs}), &json!({"parents": ours})).unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(all[..3], theirs);
        // With what fits the same is said, so that it is not tried again and again.
        assert_eq!(
            replaced(LIST, &json!({"parents": all}), &json!({"parents": ours})),
            None
        );
    }

    #[test]
    fn of_a_shared_status_only_our_entries_are_remembered() {
        let status =
            json!({"parents": [entry("example.com/other", "x"), entry(CONTROLLER_NAME, "a")]});
        let ours = ours(ObjectKind::HTTPRoute, Some(status.clone())).unwrap();
        assert_eq!(ours, json!({"parents": [entry(CONTROLLER_NAME, "a")]}));
        assert_eq!(super::ours(ObjectKind::Service, Some(status)), None);
    }
}
