//! The unit of everything that has listeners, and the GatewayClasses.

use super::{Accepted, Delta, Translator, arriving, guard, refusals};
use crate::adapt::{self, gateway::Said};
use crate::groups::infrastructure_name;
use crate::report::{ListenerReport, ObjectReport, Problem, Reason, RouteRetry, Severity};
use crate::translate::gateway_config::{self, Candidate, Version};
use crate::translate::lowering::{Dep, Lowered, Unit};
use crate::translate::unbuilt::NO_OPTIONS;
use crate::world::{Body, Definition, Meta, Object, ObjectId, ObjectKind, World};
use crds::DataPlane;
use gateway_api::gateway::GatewaySpec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Releases of the Gateway API, by major and minor number.
const BUNDLES: (u32, RangeInclusive<u32>) = (1, 5..=7);

impl Translator {
    /// What has data planes of its own: the Gateways that are ours, and the GatewayConfigs that ask for it.
    pub fn with_data_planes(&self) -> impl Iterator<Item = ObjectId> {
        let first = ObjectId::new(ObjectKind::Gateway, "", "");
        let all = self.report.objects.range(first..).map(|(id, _)| id);
        let gateways = all.take_while(|id| id.kind == ObjectKind::Gateway);
        gateways.chain(self.data_planes.keys()).cloned()
    }

    /// What a GatewayConfig asks of data planes of its own; `None`: it shares those of others.
    pub fn data_planes_of(&self, config: &ObjectId) -> Option<&DataPlane> {
        self.data_planes.get(config)
    }

    /// All of them together: ports and the default are theirs in common.
    pub(super) fn gateways(&mut self, world: &World, todo: &mut BTreeSet<Unit>, delta: &mut Delta) {
        delta.gateways = true;
        let around = gateway_config::Around {
            world,
            last_good: &self.last_good,
            ingresses: &self.ingresses,
            apart: self.apart,
        };
        let present: Vec<&Object> = gateway_config::owners(world).collect();
        let owns = |id: &ObjectId| present.iter().any(|object| object.id == *id);
        self.accepted
            .retain(|id| !id.kind.has_listeners() || owns(id));
        // Each version is judged by itself; what is not acceptable is stood in for by the last that was.
        let mut quarantine: BTreeMap<ObjectId, Vec<Problem>> = BTreeMap::new();
        let mut versions: Vec<(&ObjectId, &Meta, Version)> = Vec::new();
        // One unit for all: resources of all of them, a report for each.
        let mut together = Lowered::default();
        for object in &present {
            let (id, meta) = (&object.id, &object.meta);
            let problems = match Version::of(world, object) {
                Some(version) => {
                    let candidate = version.candidate(id, meta);
                    let judged = guard::guarded(id, || gateway_config::judge(around, &candidate));
                    let Some(judged) = judged else {
                        // The version before it, or nothing.
                        if let Some(Accepted::Listening(version)) = self.accepted.get(id) {
                            versions.push((id, meta, version.clone()));
                        }
                        quarantine.insert(id.clone(), vec![guard::fault(id)]);
                        continue;
                    };
                    // It may be another version that serves; this one is looked at again all the same.
                    together.deps.extend(judged.deps.iter().cloned());
                    let present = Accepted::Listening(version.clone());
                    let unread = unread(world, id);
                    let stands = !version.is_quarantined_by(&judged);
                    if stands && unread.is_empty() && version.can_stand_in() {
                        self.accepted.note(id, &meta.uid, present.clone());
                    }
                    // Without anything older, what is valid of it serves.
                    if stands || self.accepted.get(id).is_none_or(|last| *last == present) {
                        versions.push((id, meta, version));
                        if !unread.is_empty() {
                            quarantine.insert(id.clone(), unread);
                        }
                        continue;
                    }
                    match unread.is_empty() {
                        true => judged.problems,
                        false => unread,
                    }
                }
                None => refusals(&object.id, &object.body),
            };
            if let Some(Accepted::Listening(version)) = self.accepted.get(&object.id) {
                versions.push((id, meta, version.clone()));
            }
            quarantine.insert(object.id.clone(), problems);
        }
        let candidates: Vec<Candidate<'_>> = versions
            .iter()
            .map(|(id, meta, version)| version.candidate(id, meta))
            .collect();
        // A GatewayConfig that was refused from its first version is as good as none, unless it is the implied one
        // by name: then somebody wanted something else there.
        let implied = gateway_config::is_implied(around, &candidates)
            && !present
                .iter()
                .any(|object| object.id == gateway_config::implied());
        let all = gateway_config::implied();
        let done = guard::guarded(&all, || match implied {
            true => gateway_config::lower_implied(around, &candidates),
            false => gateway_config::lower(around, &candidates),
        });
        let Some((gateways, mut lowered)) = done else {
            // They are judged together, and stay as they are together.
            return;
        };
        let own = candidates.iter().filter(|_| self.apart);
        let own = own.filter_map(|c| Some((c.id.clone(), c.own_data_planes()?.clone())));
        self.data_planes = own.collect();
        let known = self.report.objects.keys();
        let gone = known.filter(|id| id.kind.has_listeners() && !owns(id));
        let gone: Vec<ObjectId> = gone.cloned().collect();
        for id in gone {
            self.report.objects.remove(&id);
            delta.reports.insert(id);
        }
        for object in present {
            let serving = lowered.remove(&object.id);
            let served = serving.is_some();
            let mut serving = serving.unwrap_or_default();
            serving.problems.extend(options_of_tls(object));
            if let Body::Gateway(spec) = &object.body {
                let of_parameters = unread_parameters(world, object, spec);
                serving.problems.extend(of_parameters);
                if !self.apart {
                    serving.problems.extend(elsewhere(&object.id, spec));
                }
            }
            let absent = serving.resources.is_empty();
            let keys = arriving(&serving);
            together.resources.extend(serving.resources);
            together.deps.extend(serving.deps);
            together.demands.extend(serving.demands);
            let refused = quarantine.remove(&object.id);
            let version = Version::of(world, object);
            let gateway = version.as_ref().and_then(|v| v.gateway.as_ref());
            let addresses = self.addresses(world, gateway.unwrap_or(&object.id), &mut together);
            if self.makes_data_planes && gateway.is_none() && addresses.is_some() {
                serving.problems.extend(not_permitted(world, &object.id));
            }
            let lacks_addresses = match (&object.body, &addresses) {
                (Body::Gateway(spec), Some(given)) => adapt::addresses::lacking(spec, given),
                _ => Vec::new(),
            };
            let said = version.as_ref().and_then(|version| version.said.as_ref());
            let shows = said.and_then(|said| said.backend_certificate.as_ref());
            let listeners = match (said, &version) {
                (Some(said), _) => self.listeners(&object.id, gateway, said),
                (None, Some(version)) => {
                    let serving = gateways.configs.get(&object.id);
                    self.listeners_of_config(&object.id, version, serving)
                }
                (None, None) => Vec::new(),
            };
            let report = ObjectReport {
                uid: Arc::clone(&object.meta.uid),
                addresses,
                lacks_addresses,
                shows_certificate: shows.is_some(),
                quarantined: refused.is_some() && served,
                absent,
                resources: keys,
                listeners,
                ..ObjectReport::new(
                    object.id.clone(),
                    object.meta.generation,
                    refused.unwrap_or(serving.problems),
                )
            };
            if let Some(gateway) = gateway
                && report.is_attached_set()
                && let Some(gateway) = self.report.objects.get_mut(gateway)
            {
                gateway.listener_sets += 1;
            }
            self.set_report(report, delta);
        }
        for lowered in lowered.into_values() {
            together.resources.extend(lowered.resources);
            together.deps.extend(lowered.deps);
            together.demands.extend(lowered.demands);
        }
        self.install(Unit::Gateways, together, todo, delta);
        if gateways != self.gateways {
            self.gateways = gateways;
            todo.insert(Unit::Tenants);
            self.mark_dependents(&Dep::Gateways, todo);
        }
        self.classes(world, delta);
    }

    /// Where the data planes of a Gateway or GatewayConfig are reached; `None`: it has none of its own.
    pub(super) fn addresses(
        &self,
        world: &World,
        owner: &ObjectId,
        together: &mut Lowered,
    ) -> Option<Vec<String>> {
        let is_gateway = self.apart && owner.kind == ObjectKind::Gateway;
        if !is_gateway && !self.data_planes.contains_key(owner) {
            return None;
        }
        let name = infrastructure_name(owner);
        let service = ObjectId::new(ObjectKind::Service, &*owner.namespace, name);
        let found = world.service(&service);
        let addresses = found.map(|service| service.addresses.clone());
        together.deps.insert(Dep::Object(service));
        Some(addresses.unwrap_or_default())
    }

    /// What there is to say of each listener of a Gateway, or of a ListenerSet of a Gateway.
    fn listeners(
        &self,
        id: &ObjectId,
        gateway: Option<&ObjectId>,
        said: &Said,
    ) -> Vec<ListenerReport> {
        let all = said.listeners.iter();
        all.map(|listener| {
            let key = id.listener_key(gateway, &listener.name);
            ListenerReport {
                name: listener.name.clone(),
                kinds: listener.kinds.clone(),
                terminates: said
                    .spec
                    .listeners
                    .iter()
                    .any(|one| *one.name == *listener.name && gateway_config::terminates_tls(one)),
                attached: self.attached_to(&key),
                frontend: listener.frontend.clone(),
                key,
            }
        })
        .collect()
    }

    /// The same of a GatewayConfig. `serving`: what serves of it, which has the listeners where it names none.
    fn listeners_of_config(
        &self,
        id: &ObjectId,
        version: &Version,
        serving: Option<&gateway_config::Gateway>,
    ) -> Vec<ListenerReport> {
        let report = |name: &str, terminates| {
            let key = id.listener_key(None, name);
            ListenerReport {
                name: name.to_owned(),
                kinds: Vec::new(),
                terminates,
                attached: self.attached_to(&key),
                frontend: None,
                key,
            }
        };
        let named = version.config().map_or(&[][..], |spec| &spec.listeners);
        if named.is_empty() {
            let implied = serving.into_iter().flat_map(|gateway| &gateway.listeners);
            return implied.map(|l| report(&l.name, l.https)).collect();
        }
        let terminates = gateway_config::terminates_tls;
        named
            .iter()
            .map(|l| report(&l.name, terminates(l)))
            .collect()
    }

    /// Number of Routes that are attached to a listener.
    fn attached_to(&self, key: &str) -> usize {
        self.attached.get(key).map_or(0, BTreeSet::len)
    }

    /// GatewayClasses that are ours: nothing but their status comes of them.
    fn classes(&mut self, world: &World, delta: &mut Delta) {
        let known = self.report.objects.keys();
        let known = known.filter(|id| id.kind == ObjectKind::GatewayClass);
        let mut gone: BTreeSet<ObjectId> = known.cloned().collect();
        for mut report in class_reports(world) {
            gone.remove(&report.id);
            report.problems.extend(wrong_parameters(world, &report.id));
            if self.report.get(&report.id) != Some(&report) {
                self.set_report(report, delta);
            }
        }
        for id in gone {
            self.report.objects.remove(&id);
            delta.reports.insert(id);
        }
    }
}

/// What there is to say of the GatewayClasses that are ours, but for their parameters: it does not depend on anything else.
pub(crate) fn class_reports(world: &World) -> impl Iterator<Item = ObjectReport> {
    let all = world.of_kind(ObjectKind::GatewayClass);
    let ours = all.filter(|object| gateway_config::is_our_class(world, &object.id.name));
    ours.map(|object| {
        let mut problems = refusals(&object.id, &object.body);
        let bundle = world.definition(ObjectKind::GatewayClass);
        problems.extend(bundle.and_then(|bundle| foreign(&object.id, bundle)));
        problems.extend(forbidden(&object.id, world));
        ObjectReport {
            uid: Arc::clone(&object.meta.uid),
            knows_bundle: bundle.is_some(),
            route_retry: RouteRetry::of(world.definition(ObjectKind::HTTPRoute)),
            ..ObjectReport::new(object.id.clone(), object.meta.generation, problems)
        }
    })
}

/// What a class says of parameters that are not there, or are something else.
fn wrong_parameters(world: &World, id: &ObjectId) -> Option<Problem> {
    let message = gateway_config::wrong_parameters(world, world.get(id)?)?;
    Some(Problem {
        origin: id.clone(),
        field: "spec.parametersRef".to_owned(),
        reason: Reason::InvalidParameters,
        severity: Severity::Error,
        message,
    })
}

/// What a class says of permissions that are missing.
fn forbidden(id: &ObjectId, world: &World) -> Option<Problem> {
    Some(Problem {
        origin: id.clone(),
        field: String::new(),
        reason: Reason::MissingPermissions,
        severity: Severity::Warning,
        message: world.forbidden()?.to_owned(),
    })
}

/// What a class says of CustomResourceDefinitions of a release that this one was not made for.
fn foreign(id: &ObjectId, bundle: &Definition) -> Option<Problem> {
    let (major, minors) = BUNDLES;
    let version = bundle.version();
    let supported = version.is_some_and(|(of, minor)| of == major && minors.contains(&minor));
    let (first, last) = (minors.start(), minors.end());
    (!supported).then(|| Problem {
        origin: id.clone(),
        field: String::new(),
        reason: Reason::UnsupportedVersion,
        severity: Severity::Warning,
        message: format!(
            "the CustomResourceDefinitions of the Gateway API are of {}; this release is made for v{major}.{first} to v{major}.{last}",
            bundle.release
        ),
    })
}

/// Why the present version of what has listeners cannot be read. The fields are those of that version, whose listeners are
/// not those that serve: it is said of the object as a whole.
fn unread(world: &World, id: &ObjectId) -> Vec<Problem> {
    let all = world.unread(id).iter();
    let problems = all.map(|refusal| Problem {
        origin: id.clone(),
        field: String::new(),
        reason: Reason::Invalid,
        severity: Severity::Error,
        message: refusal.to_string(),
    });
    problems.collect()
}

/// What a Gateway says of its parameters, which have no status of their own.
fn unread_parameters(world: &World, gateway: &Object, spec: &GatewaySpec) -> Option<Problem> {
    let named = gateway_config::parameters_of(world, gateway, spec)?;
    let config = named.config.ok()?;
    let refusal = world.unread(&config).first()?;
    Some(Problem {
        origin: gateway.id.clone(),
        field: named.field.to_owned(),
        reason: Reason::InvalidParameters,
        severity: Severity::Warning,
        message: format!(
            "{config} cannot be read, and the version before it is in effect: {refusal}"
        ),
    })
}

/// Options of TLS are each implementation's own (`tls.options`), and here are none.
fn options_of_tls(object: &Object) -> impl Iterator<Item = Problem> {
    let asked: Vec<bool> = match &object.body {
        Body::Gateway(spec) => {
            let asks = spec
                .listeners
                .iter()
                .map(|l| l.tls.as_ref()?.options.as_ref());
            asks.map(|options| options.is_some()).collect()
        }
        Body::ListenerSet(spec) => {
            let asks = spec
                .listeners
                .iter()
                .map(|l| l.tls.as_ref()?.options.as_ref());
            asks.map(|options| options.is_some()).collect()
        }
        _ => Vec::new(),
    };
    let asked = asked.into_iter().enumerate().filter(|(_, asks)| *asks);
    asked.map(|(i, _)| Problem {
        origin: object.id.clone(),
        field: format!("spec.listeners[{i}].tls.options"),
        reason: Reason::NotBuilt,
        severity: Severity::Warning,
        message: NO_OPTIONS.to_owned(),
    })
}

/// What keeps the controller from making data planes for it.
fn not_permitted(world: &World, id: &ObjectId) -> Option<Problem> {
    let namespace = &id.namespace;
    let is_permitted = world.scope().includes_secrets_of(namespace);
    (!is_permitted).then(|| Problem {
        origin: id.clone(),
        field: String::new(),
        reason: Reason::DataPlanesNotPermitted,
        severity: Severity::Warning,
        message: format!(
            "its data planes need a Secret with their certificate, and the controller may not write Secrets in namespace \
             {namespace}: add that to --secret-namespaces (by Helm rbac.secretNamespaces)"
        ),
    })
}

/// What one process for all Gateways cannot do: it has the addresses of its machine.
fn elsewhere(id: &ObjectId, spec: &GatewaySpec) -> impl Iterator<Item = Problem> {
    let wanted = adapt::addresses::wanted(spec);
    wanted.map(|(field, _)| Problem {
        origin: id.clone(),
        field,
        reason: Reason::NotBuilt,
        severity: Severity::Warning,
        message: "is for data planes behind a load balancer: this process listens at all addresses that it has".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Programmed;
    use serde_json::json;

    /// Its status changes, and nothing that data planes are made of.
    #[test]
    fn a_gateway_config_counts_its_routes_and_is_not_looked_at_again_for_it() {
        let object = |value| Object::from_json(&value).unwrap().unwrap();
        let config = object(json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"namespace": "a", "name": "g"},
            "spec": {"default": true, "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]},
        }));
        let route = object(json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route", "metadata": {"namespace": "a", "name": "r"},
            "spec": {"rules": [{"directResponse": {"status": 200}}]},
        }));
        let (mut world, mut translator) = (World::default(), Translator::default());
        world.apply(config.clone());
        let delta = translator.update(&world, &BTreeSet::from([config.id.clone()]));
        assert!(delta.gateways);
        let counts = |translator: &Translator| {
            let status = translator.report().status(&config.id, &Programmed::Yes);
            status.unwrap()["listeners"][0]["attachedRoutes"].clone()
        };
        assert_eq!(counts(&translator), 0);
        let dirty = BTreeSet::from([route.id.clone()]);
        world.apply(route.clone());
        let delta = translator.update(&world, &dirty);
        assert_eq!(counts(&translator), 1);
        assert!(delta.reports.contains(&config.id) && !delta.gateways);
        world.remove(&route.id);
        let delta = translator.update(&world, &dirty);
        assert_eq!(counts(&translator), 0);
        assert!(delta.reports.contains(&config.id) && !delta.gateways);
    }

    /// The Gateway's own and those of older ListenerSets go before.
    #[test]
    fn a_gateway_has_so_many_listeners_and_no_more() {
        let object = |kind: &str, name: &str, spec: &serde_json::Value| {
            let object = json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "spec": spec,
                "metadata": {"namespace": "a", "name": name},
            });
            Object::from_json(&object).unwrap().unwrap()
        };
        let listener = |i: usize| json!({"name": format!("l{i}"), "port": 80, "protocol": "HTTP", "hostname": format!("l{i}.test")});
        let gateway = json!({
            "gatewayClassName": "diolkos", "listeners": [listener(0)], "allowedListeners": {"namespaces": {"from": "Same"}},
        });
        let mut world = World::default();
        world.apply(object("Gateway", "g", &gateway));
        for set in 0..32 {
            let listeners: Vec<_> = (1..=64).map(|i| listener(set * 64 + i)).collect();
            let set_of = json!({"parentRef": {"name": "g"}, "listeners": listeners});
            world.apply(object("ListenerSet", &format!("s{set:02}"), &set_of));
        }
        let mut translator = Translator::default();
        let ids = world.ids().cloned().collect();
        translator.update(&world, &ids);
        assert_eq!(translator.resources().count(snapshot::Kind::Listener), 2048);
        let last = ObjectId::new(ObjectKind::ListenerSet, "a", "s31");
        let status = translator.report().status(&last, &Programmed::Yes).unwrap();
        let reason = |i: usize| status["listeners"][i]["conditions"][0]["reason"].clone();
        assert_eq!(
            (reason(62), reason(63)),
            (json!("Accepted"), json!("TooManyListeners"))
        );
        let problems = translator.report().problems().map(|p| p.reason);
        assert_eq!(problems.collect::<Vec<_>>(), [Reason::TooManyListeners]);
    }

    /// Its data planes are told nothing, and keep what they have.
    #[test]
    fn a_gateway_of_which_too_little_can_be_read_has_no_group() {
        let gateway = |port: serde_json::Value, tls: serde_json::Value| {
            let listeners = json!([{"name": "a", "port": 80, "protocol": "HTTP"}, {"name": "b", "port": port, "protocol": "HTTP"}]);
            let gateway = json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"namespace": "a", "name": "g"},
                "spec": {"gatewayClassName": "diolkos", "listeners": listeners, "tls": tls},
            });
            Object::from_json(&gateway).unwrap().unwrap()
        };
        for (gateway, listeners) in [
            (gateway(json!(81), json!({})), Some(2)),
            (gateway(json!("later"), json!({})), Some(1)),
            (gateway(json!(81), json!("later")), None),
        ] {
            let (mut world, mut translator) = (World::default(), Translator::for_groups());
            let ids = BTreeSet::from([gateway.id.clone()]);
            world.apply(gateway);
            translator.update(&world, &ids);
            let groups: BTreeSet<ObjectId> = translator.with_data_planes().collect();
            assert_eq!(groups, listeners.map_or_else(BTreeSet::new, |_| ids));
            let count = translator.resources().count(snapshot::Kind::Listener);
            // One is implied, for the data planes that all share.
            assert_eq!(count, listeners.unwrap_or(0) + 1);
        }
    }

    fn ours() -> Object {
        let manifest = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "ours"},
            "spec": {"controllerName": crate::report::CONTROLLER_NAME},
        });
        Object::from_json(&manifest).unwrap().unwrap()
    }

    #[test]
    fn a_class_says_whether_the_release_of_the_gateway_api_is_one_of_ours() {
        let class = ours();
        let ids = BTreeSet::from([class.id.clone()]);
        let (mut world, mut translator) = (World::default(), Translator::default());
        world.apply(class.clone());
        for (bundle, said) in [
            (None, None),
            (Some("v1.6.1"), Some(("True", "SupportedVersion"))),
            (Some("v1.5.0"), Some(("True", "SupportedVersion"))),
            (Some("v1.8.0-rc.1"), Some(("False", "UnsupportedVersion"))),
            (Some("v2.6.0"), Some(("False", "UnsupportedVersion"))),
            (Some("what"), Some(("False", "UnsupportedVersion"))),
            (None, None),
        ] {
            let definition = bundle.map(|release| Definition {
                release: release.into(),
                experimental: false,
            });
            world.set_definition(ObjectKind::GatewayClass, definition);
            translator.update(&world, &ids);
            let status = translator
                .report()
                .status(&class.id, &Programmed::Yes)
                .unwrap();
            let conditions = status["conditions"].as_array().unwrap();
            assert_eq!(
                conditions[0]["status"], "True",
                "it is accepted: {conditions:?}"
            );
            let condition = conditions.iter().find(|c| c["type"] == "SupportedVersion");
            let found =
                condition.map(|c| (c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()));
            assert_eq!(found, said, "{bundle:?}");
        }
        assert!(
            !world.set_definition(ObjectKind::GatewayClass, None),
            "nothing new"
        );
    }

    #[test]
    fn a_class_claims_retries_while_the_http_routes_of_the_cluster_have_them() {
        let class = ours();
        let ids = BTreeSet::from([class.id.clone()]);
        let (mut world, mut translator) = (World::default(), Translator::default());
        world.apply(class.clone());
        const CODES: &[&str] = &["HTTPRouteRetryCodes", "HTTPRouteRetryConnectionError"];
        const EXPERIMENTAL: &[&str] = &[
            "HTTPRouteRetry",
            "HTTPRouteRetryBackendTimeout",
            "HTTPRouteRetryConnectionError",
        ];
        for (definition, claimed) in [
            (None, &[][..]),
            (Some(("v1.6.3", false)), &[]),
            (Some(("v1.6.3", true)), EXPERIMENTAL),
            (Some(("v1.7.0", false)), CODES),
            (Some(("v1.6.3", false)), &[]),
            (Some(("v1.6.3", true)), EXPERIMENTAL),
            (None, &[]),
        ] {
            let definition = definition.map(|(release, experimental)| Definition {
                release: release.into(),
                experimental,
            });
            world.set_definition(ObjectKind::HTTPRoute, definition.clone());
            let delta = translator.update(&world, &ids);
            let status = translator
                .report()
                .status(&class.id, &Programmed::Yes)
                .unwrap();
            let features = status["supportedFeatures"].as_array().unwrap();
            let names = features.iter().map(|f| f["name"].as_str().unwrap());
            let names: Vec<&str> = names.filter(|name| name.contains("Retry")).collect();
            assert_eq!(names, claimed, "{definition:?}");
            assert!(
                names.is_empty() || delta.reports.contains(&class.id),
                "it is written"
            );
        }
    }
}
