//! A Gateway, or a ListenerSet, as a GatewayConfig (gateway.networking.k8s.io/v1; GEP-91 for client certificates, GEP-1713).

use super::{Fault, GROUP, Names, addresses, conflicts, of_the_same_form, port};
use crate::report::{Frontend, Reason};
use crate::world::ObjectKind;
use crds::refs::{LabelOperator, LabelRequirement, LabelSelector, ObjectRef};
use crds::{
    AllowedRoutes, ClientValidation, ClientValidationMode, FromNamespaces, GatewayConfigSpec,
    Listener, ListenerProtocol, ListenerTls, RouteNamespaces, TlsMode,
};
use gateway_api::gateway::{
    GatewayAllowedListenersNamespacesFrom as SetsFrom,
    GatewayAllowedListenersNamespacesSelector as TheirSelector, GatewayListeners as TheirListener,
    GatewayListenersAllowedRoutesNamespacesFrom as From, GatewayListenersTlsMode as Mode,
    GatewaySpec, GatewayTlsFrontendDefaultValidation as Validation,
    GatewayTlsFrontendDefaultValidationMode as ValidationMode,
};
use gateway_api::listener_set::ListenerSetSpec;

/// Where a Gateway says which certificate it shows to backends.
pub(crate) const BACKEND_CERTIFICATE: &str = "spec.tls.backend.clientCertificateRef";

/// A GatewayConfig that listens where a Gateway says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub spec: GatewayConfigSpec,
    pub names: Names,
    pub faults: Vec<Fault>,
    /// All listeners of the Gateway or ListenerSet, in its order.
    pub listeners: Vec<SaidListener>,
    /// What backends over TLS are shown.
    pub backend_certificate: Option<ObjectRef>,
}

/// What is known of a listener whether or not it can serve.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SaidListener {
    pub name: String,
    pub port: u16,
    /// Kinds of Routes that it takes.
    pub kinds: Vec<ObjectKind>,
    /// What the Gateway asks of clients on its port, where it speaks TLS.
    pub frontend: Option<Frontend>,
    /// It is not distinct from another listener of the Gateway, so that it has no place on its port.
    pub conflict: Option<Fault>,
}

/// Kinds of Routes that listeners of a protocol take. The first are those of the Gateway API.
pub(crate) fn kinds_of(protocol: ListenerProtocol) -> &'static [ObjectKind] {
    match protocol {
        ListenerProtocol::Http | ListenerProtocol::Https => &[
            ObjectKind::HTTPRoute,
            ObjectKind::GRPCRoute,
            ObjectKind::Route,
        ],
        ListenerProtocol::Tls => &[ObjectKind::TLSRoute],
        ListenerProtocol::Tcp => &[ObjectKind::TCPRoute],
        ListenerProtocol::Udp => &[ObjectKind::UDPRoute],
    }
}

/// Says a Gateway as a GatewayConfig. `base`: what its class or itself names by parametersRef; its listeners do not
/// count.
pub(crate) fn as_config(spec: &GatewaySpec, base: Option<&GatewayConfigSpec>) -> Said {
    let conflicts = conflicts::find(&spec.listeners, |name| protocol(name).is_some());
    let mut said = say(spec, conflicts, base);
    said.faults.extend(addresses::faults(spec));
    said
}

/// Says a ListenerSet as a GatewayConfig. Connections are as the Gateway that it adds to has them; which of its
/// listeners have a place there is known only beside the others.
pub(crate) fn set_as_config(
    set: &ListenerSetSpec,
    gateway: &GatewaySpec,
    base: Option<&GatewayConfigSpec>,
) -> Said {
    let spec = GatewaySpec {
        listeners: set.listeners.iter().map(of_the_same_form).collect(),
        tls: gateway.tls.clone(),
        ..GatewaySpec::default()
    };
    say(&spec, vec![None; spec.listeners.len()], base)
}

/// Namespaces from which a Gateway takes ListenerSets; `None`: it takes none.
pub(crate) fn takes_sets_from(spec: &GatewaySpec) -> Option<(FromNamespaces, LabelSelector)> {
    let namespaces = spec.allowed_listeners.as_ref()?.namespaces.as_ref()?;
    let from = match namespaces.from.as_ref()? {
        SetsFrom::All => FromNamespaces::All,
        SetsFrom::Same => FromNamespaces::Same,
        SetsFrom::Selector => FromNamespaces::Selector,
        SetsFrom::None | SetsFrom::Unknown => return None,
    };
    // A selector that is missing selects nothing.
    if from == FromNamespaces::Selector && namespaces.selector.is_none() {
        return None;
    }
    let labels = namespaces.selector.as_ref().map(selector);
    Some((from, labels.unwrap_or_default()))
}

fn say(
    spec: &GatewaySpec,
    conflicts: Vec<Option<Fault>>,
    base: Option<&GatewayConfigSpec>,
) -> Said {
    let mut said = Said {
        spec: GatewayConfigSpec {
            default: None,
            listeners: Vec::new(),
            ..base.cloned().unwrap_or_default()
        },
        ..Said::default()
    };
    for ((i, listener), conflict) in spec.listeners.iter().enumerate().zip(conflicts) {
        let at = format!("spec.listeners[{i}]");
        let mut protocol = protocol(&listener.protocol);
        if protocol.is_none() {
            let message = format!(
                "{:?} is not built: HTTP, HTTPS, TLS, TCP and UDP are",
                listener.protocol
            );
            let field = format!("{at}.protocol");
            said.fault(field, Reason::UnsupportedProtocol, message);
        }
        if !is_section_name(&listener.name) {
            let message = "must be of lower-case letters, digits, '-' and '.'";
            said.fault(format!("{at}.name"), Reason::Invalid, message);
            protocol = None;
        }
        said.faults.extend(conflict.clone());
        let kinds = match protocol {
            Some(protocol) => said.kinds(&at, protocol, listener),
            None => Vec::new(),
        };
        if let Some(protocol) = protocol {
            let ours = format!("spec.listeners[{}]", said.spec.listeners.len());
            said.names.add(ours.clone(), at.clone());
            said.names.add(
                format!("{ours}.defaultCertificate"),
                format!("{at}.tls.certificateRefs[0]"),
            );
            let listener = said.listener(spec, &ours, &at, protocol, listener);
            said.spec.listeners.push(listener);
        }
        let https = protocol == Some(ListenerProtocol::Https);
        let frontend = validation(spec, listener.port).filter(|_| https);
        said.listeners.push(SaidListener {
            name: listener.name.clone(),
            port: port(listener.port),
            kinds,
            frontend: frontend.map(|(field, validation)| Frontend {
                field,
                insecure: is_insecure(validation),
            }),
            conflict,
        });
    }
    let backend = spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
    let shown = backend.and_then(|backend| backend.client_certificate_ref.as_ref());
    said.backend_certificate = shown.map(|r| {
        reference(
            r.group.as_ref(),
            r.kind.as_ref(),
            &r.name,
            r.namespace.as_ref(),
        )
    });
    said
}

/// As the CustomResourceDefinitions have it; standalone nobody has looked at it.
fn is_section_name(name: &str) -> bool {
    let part = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    (1..=253).contains(&name.len()) && name.bytes().all(part)
}

/// `None`: it is not built.
fn protocol(name: &str) -> Option<ListenerProtocol> {
    match name {
        "HTTP" => Some(ListenerProtocol::Http),
        "HTTPS" => Some(ListenerProtocol::Https),
        "TLS" => Some(ListenerProtocol::Tls),
        "TCP" => Some(ListenerProtocol::Tcp),
        "UDP" => Some(ListenerProtocol::Udp),
        _ => None,
    }
}

impl Said {
    fn fault(&mut self, field: String, reason: Reason, message: impl Into<String>) {
        let message = message.into();
        self.faults.push(Fault {
            field,
            reason,
            message,
        });
    }

    /// Those that are asked for and can be had; all that can be had where none is asked for.
    fn kinds(
        &mut self,
        at: &str,
        protocol: ListenerProtocol,
        listener: &TheirListener,
    ) -> Vec<ObjectKind> {
        let possible = kinds_of(protocol);
        let asked = listener
            .allowed_routes
            .as_ref()
            .and_then(|a| a.kinds.as_deref());
        let Some(asked) = asked.filter(|kinds| !kinds.is_empty()) else {
            return possible.to_vec();
        };
        let mut kinds = Vec::new();
        for (i, one) in asked.iter().enumerate() {
            let group = one.group.as_deref().unwrap_or(GROUP);
            let known = possible
                .iter()
                .find(|k| k.name() == one.kind && k.group() == group);
            match known {
                Some(kind) => kinds.push(*kind),
                None => {
                    let message =
                        format!("{} of {group:?} cannot attach to this listener", one.kind);
                    let field = format!("{at}.allowedRoutes.kinds[{i}]");
                    self.fault(field, Reason::InvalidRouteKinds, message);
                }
            }
        }
        kinds
    }

    fn listener(
        &mut self,
        gateway: &GatewaySpec,
        ours: &str,
        theirs: &str,
        protocol: ListenerProtocol,
        listener: &TheirListener,
    ) -> Listener {
        let https = protocol == ListenerProtocol::Https;
        let encrypted = https || protocol == ListenerProtocol::Tls;
        let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_ref());
        let mode = mode.map_or(TlsMode::Terminate, |mode| match mode {
            Mode::Passthrough => TlsMode::Passthrough,
            Mode::Terminate | Mode::Unknown => TlsMode::Terminate,
        });
        // What is passed on needs none, whatever is given.
        let terminates = encrypted && mode == TlsMode::Terminate;
        let certificates: Vec<ObjectRef> = listener
            .tls
            .iter()
            .filter(|_| terminates)
            .flat_map(|tls| tls.certificate_refs.iter().flatten())
            .map(|r| {
                reference(
                    r.group.as_ref(),
                    r.kind.as_ref(),
                    &r.name,
                    r.namespace.as_ref(),
                )
            })
            .collect();
        let tls = encrypted.then(|| ListenerTls {
            mode: Some(mode),
            certificate_refs: certificates.clone(),
            client_validation: match https {
                true => self.client_validation(gateway, ours, listener.port),
                false => None,
            },
            ..ListenerTls::default()
        });
        if listener.tls.is_some() && !encrypted {
            let message = "is for protocols HTTPS and TLS";
            self.fault(format!("{theirs}.tls"), Reason::Invalid, message);
        }
        let namespaces = listener
            .allowed_routes
            .as_ref()
            .and_then(|a| a.namespaces.as_ref());
        let from = match namespaces.and_then(|n| n.from.as_ref()) {
            None | Some(From::Same | From::Unknown) => FromNamespaces::Same,
            Some(From::All) => FromNamespaces::All,
            Some(From::Selector) => FromNamespaces::Selector,
        };
        Listener {
            name: listener.name.as_str().into(),
            port: port(listener.port),
            protocol,
            hostname: listener
                .hostname
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(Into::into),
            tls,
            // Whatever name a client asks for, this listener has no other certificate to show.
            default_certificate: certificates.into_iter().next(),
            allowed_routes: Some(AllowedRoutes {
                namespaces: Some(RouteNamespaces {
                    from: Some(from),
                    selector: namespaces.and_then(|n| n.selector.as_ref()).map(selector),
                }),
            }),
            // A Gateway's paths are all its Routes' own.
            health: Some(false),
            ..Listener::default()
        }
    }

    /// What is asked of clients on a port, or on all.
    fn client_validation(
        &mut self,
        gateway: &GatewaySpec,
        ours: &str,
        port: i32,
    ) -> Option<ClientValidation> {
        let (at, validation) = validation(gateway, port)?;
        if is_insecure(validation) {
            return None;
        }
        let ours = format!("{ours}.tls.clientValidation");
        self.names
            .add(format!("{ours}.caRefs"), format!("{at}.caCertificateRefs"));
        self.names.add(ours, at);
        let refs = validation.ca_certificate_refs.iter();
        Some(ClientValidation {
            ca_refs: refs
                .map(|r| reference(Some(&r.group), Some(&r.kind), &r.name, r.namespace.as_ref()))
                .collect(),
            mode: Some(ClientValidationMode::Require),
        })
    }
}

/// What a Gateway asks of clients on a port, and where it says so.
fn validation(gateway: &GatewaySpec, port: i32) -> Option<(String, &Validation)> {
    let frontend = gateway.tls.as_ref()?.frontend.as_ref()?;
    let of_port = frontend.per_port.iter().flatten().enumerate();
    let of_port = of_port.filter(|(_, one)| one.port == port);
    Some(match of_port.last() {
        Some((i, one)) => (
            format!("spec.tls.frontend.perPort[{i}].tls.validation"),
            one.tls.validation.as_ref()?,
        ),
        None => (
            "spec.tls.frontend.default.validation".to_owned(),
            frontend.default.validation.as_ref()?,
        ),
    })
}

fn is_insecure(validation: &Validation) -> bool {
    validation.mode == Some(ValidationMode::AllowInsecureFallback)
}

fn reference(
    group: Option<&String>,
    kind: Option<&String>,
    name: &str,
    namespace: Option<&String>,
) -> ObjectRef {
    ObjectRef {
        name: name.into(),
        namespace: namespace.map(|n| n.as_str().into()),
        kind: kind.map(|k| k.as_str().into()),
        group: group.map(|g| g.as_str().into()),
    }
}

fn selector(selector: &TheirSelector) -> LabelSelector {
    let expressions = selector.match_expressions.iter().flatten();
    LabelSelector {
        match_labels: selector.match_labels.clone().unwrap_or_default(),
        match_expressions: expressions
            .map(|one| LabelRequirement {
                key: one.key.as_str().into(),
                operator: match one.operator.as_str() {
                    "NotIn" => LabelOperator::NotIn,
                    "Exists" => LabelOperator::Exists,
                    "DoesNotExist" => LabelOperator::DoesNotExist,
                    // `In` without values, which nothing fulfils, also where the operator is not known.
                    _ => LabelOperator::In,
                },
                values: one
                    .values
                    .iter()
                    .flatten()
                    .map(|v| v.as_str().into())
                    .collect(),
            })
            .collect(),
    }
}
