//! References to what serves requests.

use super::lowering::{Lowering, PortKey, Speech, Transport, Unit};
use super::service::H2C;
use crate::report::{Field, Reason};
use crate::world::{ObjectId, ObjectKind};
use model::{Backend, Mirror, Target, Upstream};
use std::collections::BTreeMap;

impl Lowering<'_> {
    /// The backends of a rule.
    pub(super) fn backends(
        &mut self,
        field: Field<'_>,
        backends: &[crds::Backend],
    ) -> Vec<Backend> {
        let mut out = Vec::with_capacity(backends.len());
        for (i, backend) in backends.iter().enumerate() {
            let at = format_args!("{field}[{i}]");
            let target = self.target(&at, backend);
            let edits = backend.request_headers.as_ref();
            out.push(Backend {
                weight: backend.weight.unwrap_or(1),
                priority: backend.priority.unwrap_or(0).into(),
                request_headers: self.header_edits(&format_args!("{at}.requestHeaders"), edits),
                ..Backend::new(target)
            });
        }
        out
    }

    /// Where copies of the requests go. `shares`: in millionths, of those by position to which no whole percents do justice.
    pub(super) fn mirrors(
        &mut self,
        field: Field<'_>,
        mirrors: &[crds::Mirror],
        shares: &BTreeMap<usize, u32>,
    ) -> Vec<Mirror> {
        let mut out = Vec::with_capacity(mirrors.len());
        for (i, mirror) in mirrors.iter().enumerate() {
            let backend = crds::Backend {
                kind: mirror.kind.clone(),
                group: mirror.group.clone(),
                name: mirror.name.clone(),
                namespace: mirror.namespace.clone(),
                port: mirror.port,
                ..crds::Backend::default()
            };
            let target = self.target(&format_args!("{field}[{i}]"), &backend);
            let percent = u32::from(mirror.percent.unwrap_or(100)).min(100);
            let millionths = shares.get(&i).copied().unwrap_or(percent * 10_000);
            if millionths > 0 {
                out.push(Mirror { target, millionths });
            }
        }
        out
    }

    fn target(&mut self, field: Field<'_>, backend: &crds::Backend) -> Target {
        let kind = backend.kind.as_deref().unwrap_or("Service");
        let namespace = backend.namespace.as_deref().unwrap_or(&self.id.namespace);
        let port = backend
            .port
            .map_or_else(String::new, |port| format!(":{port}"));
        let asked = format!("{kind}/{namespace}/{}{port}", backend.name);
        let own = (backend.name.to_string(), backend.port.unwrap_or(0));
        let found = match self.out.own_upstreams.get(&own) {
            Some(found) if kind == "Service" => found.clone(),
            _ => self.find_target(field, kind, namespace, backend),
        };
        found.map_or(Target::Unresolved(asked), Target::Upstream)
    }

    /// The key of an upstream resource.
    fn find_target(
        &mut self,
        field: Field<'_>,
        kind: &str,
        namespace: &str,
        backend: &crds::Backend,
    ) -> Option<String> {
        let known = [ObjectKind::Service, ObjectKind::Upstream];
        let Some(kind) = known.into_iter().find(|k| k.name() == kind) else {
            let message = format!("{kind:?} is no backend; allowed are Service and Upstream");
            self.error(format!("{field}.kind"), Reason::InvalidKind, message);
            return None;
        };
        if backend
            .group
            .as_deref()
            .is_some_and(|group| group != kind.group())
        {
            let message = format!("must be {:?} for kind {kind}", kind.group());
            self.error(format!("{field}.group"), Reason::InvalidKind, message);
            return None;
        }
        let id = ObjectId::new(kind, namespace, backend.name.as_str());
        if !self.may_refer(&id) {
            let message = self.world.not_granted(&id);
            self.error(field, Reason::RefNotPermitted, message);
            return None;
        }
        if kind == ObjectKind::Upstream {
            let key = format!("Upstream/{}", id.path());
            if self.object(&id).is_none() {
                let message = self.world.not_found(&id);
                self.error(field, Reason::BackendNotFound, message);
                return None;
            }
            let Some(upstream) = self.resources.get::<Upstream>(&key) else {
                let message = format!("{id} cannot be used; its own status says why");
                self.error(field, Reason::BackendNotFound, message);
                return None;
            };
            let wants = match upstream {
                _ if self.id.kind != ObjectKind::UDPRoute => None,
                one if one.connection.proxy_protocol.is_some() => Some("connection.proxyProtocol"),
                one if one.tls.is_some() => Some("tls"),
                _ => None,
            };
            if let Some(wants) = wants {
                let message =
                    format!("{id} has {wants}, which datagrams cannot have: nothing is sent there");
                self.error(field, Reason::BackendNotFound, message);
                return None;
            }
            return Some(key);
        }
        let Some(port) = backend.port else {
            self.error(
                format!("{field}.port"),
                Reason::Invalid,
                "must be given for a Service",
            );
            return None;
        };
        let port = self.service_port(field, "port", &id, port)?;
        let speech = self.speech(&port);
        let key = port.upstream_key(speech);
        self.out.demands.insert(Unit::Shards(port.clone()));
        self.out.demands.insert(Unit::ServiceUpstream(port, speech));
        Some(key)
    }

    fn speech(&self, port: &PortKey) -> Speech {
        let service = self.world.service(&port.service);
        let declared = service.and_then(|s| s.ports.iter().find(|p| port.is(p)));
        let is_h2c = declared.is_some_and(|p| p.app_protocol.as_deref() == Some(H2C));
        match self.id.kind == ObjectKind::GRPCRoute && !is_h2c {
            true => Speech::Grpc,
            false => Speech::Declared,
        }
    }

    /// A port of a Service that exists and can be served; otherwise the problem says what is missing.
    pub(super) fn service_port(
        &mut self,
        field: Field<'_>,
        port_field: &str,
        id: &ObjectId,
        port: u16,
    ) -> Option<PortKey> {
        let Some(service) = self.service(id) else {
            let message = self.world.not_found(id);
            self.error(field, Reason::BackendNotFound, message);
            return None;
        };
        if service.external_name.is_some() {
            let message =
                format!("{id} is of type ExternalName; name its host in an Upstream instead");
            self.error(field, Reason::BackendNotFound, message);
            return None;
        }
        let transport = match self.id.kind {
            ObjectKind::UDPRoute => Transport::Udp,
            _ => Transport::Tcp,
        };
        let key = PortKey {
            service: self.world.known(id),
            port,
            transport,
        };
        if !service.ports.iter().any(|p| key.is(p)) {
            let message = format!("{id} has no {} port {port}", transport.name());
            let at = format_args!("{field}.{port_field}");
            self.error(at, Reason::BackendNotFound, message);
            return None;
        }
        Some(key)
    }
}
