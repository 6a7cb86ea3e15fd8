//! What is said of objects while a Pod serves that no controller hears of.

use super::*;
use crate::publish::tests::Client;
use snapshot::Replica;

fn route(name: &str, generation: i64) -> Object {
    let value = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
        "metadata": {"namespace": "a", "name": name, "uid": "u", "generation": generation},
        "spec": {"hostnames": [format!("{name}.example")], "rules": [{"directResponse": {"status": 200 + generation}}]},
    });
    Object::from_json(&value).unwrap().unwrap()
}

/// Of the Service that leads to data planes, which call themselves `a` in tests.
fn slice(ready: bool) -> Object {
    let value = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "test", "name": "shared-1", "labels": {
            "kubernetes.io/service-name": "shared", "app.kubernetes.io/component": "data-plane",
        }},
        "endpoints": [{
            "addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": "a"},
        }],
    });
    Object::from_json(&value).unwrap().unwrap()
}

impl Running {
    /// What `Programmed` says of a Route, once it is that of this generation: its reason and message.
    async fn programmed(&self, name: &str, generation: i64) -> (String, String) {
        let id = ObjectId::new(ObjectKind::Route, "a", name);
        let wait = async {
            loop {
                let wanted = self.world.statuses(vec![id.clone()]).await;
                let status = wanted.into_iter().next().unwrap().status;
                let status = status.unwrap_or_default();
                let conditions = status.pointer("/parents/0/conditions");
                let conditions = conditions.and_then(Value::as_array);
                let found = conditions
                    .and_then(|all| all.iter().find(|c| c["type"] == "Programmed"))
                    .filter(|c| c["observedGeneration"] == generation);
                if let Some(found) = found {
                    let text = |field: &str| found[field].as_str().unwrap().to_owned();
                    return (text("reason"), text("message"));
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(FOREVER, wait).await.unwrap()
    }

    /// Its status is written, or another leader's is seen.
    async fn is_written(&self, name: &str) {
        let id = ObjectId::new(ObjectKind::Route, "a", name);
        let wanted = self.world.statuses(vec![id.clone()]).await;
        let status = wanted.into_iter().next().unwrap().status;
        self.written.see(&id, &"u".into(), "1", status);
    }

    /// Waits until a Pod serves, or none.
    async fn served(&self, served: bool) {
        self.send(apply(slice(served))).await;
        let is_served = || !self.publisher.pods().is_empty();
        let wait = async {
            while is_served() != served {
                tokio::task::yield_now().await;
            }
        };
        timeout(FOREVER, wait).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_pod_that_is_cut_off_may_lack_is_not_programmed_and_all_else_stays_as_it_was() {
    let it = start(FOREVER);
    let config = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"namespace": "a", "name": "g"},
        "spec": {"default": true, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    });
    it.send(apply(Object::from_json(&config).unwrap().unwrap()))
        .await;
    for name in ["old", "new", "unwritten"] {
        it.send(apply(route(name, 1))).await;
    }
    for kind in ObjectKind::ALL {
        let ids = match kind {
            ObjectKind::Route => ["old", "new", "unwritten"]
                .map(|name| ObjectId::new(*kind, "a", name))
                .into(),
            ObjectKind::GatewayConfig => [ObjectId::new(*kind, "a", "g")].into(),
            _ => BTreeSet::new(),
        };
        it.send(Event::Listed {
            of: (*kind).into(),
            ids,
        })
        .await;
    }
    it.published(3).await;
    it.served(true).await;
    let mut one = Client::connect(&it.publisher, Replica::default());
    one.sync();
    let yes = ("Programmed".to_owned(), String::new());
    for name in ["old", "new"] {
        assert_eq!(it.programmed(name, 1).await, yes);
        it.is_written(name).await;
    }

    let Client {
        session, replica, ..
    } = one;
    drop(session);
    it.send(apply(route("new", 2))).await;
    let (reason, message) = it.programmed("new", 2).await;
    assert_eq!(reason, "Pending");
    assert!(
        message.ends_with(": a serves and is not connected"),
        "{message}"
    );
    assert_eq!(it.programmed("old", 1).await, yes, "it has had it");
    // Nobody remembers that it has had this.
    assert_eq!(it.programmed("unwritten", 1).await.0, "Pending");

    // It gets no traffic any more.
    it.served(false).await;
    assert_eq!(it.programmed("new", 2).await.0, "NoDataPlane");
    it.served(true).await;
    assert_eq!(it.programmed("new", 2).await.0, "Pending");
    let mut one = Client::connect(&it.publisher, replica);
    one.sync();
    for (name, generation) in [("old", 1), ("new", 2), ("unwritten", 1)] {
        assert_eq!(it.programmed(name, generation).await, yes);
    }
}
