//! Compact records of Kubernetes' own kinds.

use crate::infrastructure::{CONFIG_NAME, GATEWAY_NAME};
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Label of what belongs to data planes, and its value.
const COMPONENT: &str = "app.kubernetes.io/component";
const DATA_PLANE: &str = "data-plane";

/// What is kept of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub ports: Box<[ServicePort]>,
    /// Set for `type: ExternalName`.
    pub external_name: Option<String>,
    /// Without a selector its EndpointSlices are made by somebody else than the cluster.
    pub has_selector: bool,
    /// Where a Service that leads to data planes is reached from outside: addresses and host names. Of others only what
    /// a balancer gives.
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty where a Service with one port gives none. EndpointSlices name their ports alike.
    pub name: String,
    pub port: u16,
    /// Number or name of the port of the Pods.
    pub target_port: Option<String>,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    pub app_protocol: Option<String>,
}

impl From<&core::Service> for Service {
    fn from(service: &core::Service) -> Self {
        let spec = service.spec.as_ref();
        let ports = spec.and_then(|s| s.ports.as_ref()).into_iter().flatten();
        let ports = ports.filter_map(|p| {
            Some(ServicePort {
                name: p.name.clone().unwrap_or_default(),
                port: u16::try_from(p.port).ok().filter(|port| *port != 0)?,
                target_port: p.target_port.as_ref().map(|t| match t {
                    IntOrString::Int(number) => number.to_string(),
                    IntOrString::String(name) => name.clone(),
                }),
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                app_protocol: p.app_protocol.clone(),
            })
        });
        let is_external = spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName");
        let external_name = spec.and_then(|s| s.external_name.clone());
        let selector = spec.and_then(|s| s.selector.as_ref());
        Self {
            ports: ports.collect(),
            external_name: external_name.filter(|_| is_external),
            has_selector: selector.is_some_and(|labels| !labels.is_empty()),
            addresses: addresses(service),
        }
    }
}

/// Whether a Service of these labels leads to data planes of ours. Its EndpointSlices have them as well.
fn leads_to_us(labels: Option<&BTreeMap<String, String>>) -> bool {
    labels.is_some_and(|labels| {
        labels.contains_key(GATEWAY_NAME)
            || labels.contains_key(CONFIG_NAME)
            || labels.get(COMPONENT).is_some_and(|c| c == DATA_PLANE)
    })
}

/// What a balancer gives, or the cluster itself where none is asked for.
fn addresses(service: &core::Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    if spec.and_then(|s| s.type_.as_deref()) != Some("LoadBalancer") {
        if !leads_to_us(service.metadata.labels.as_ref()) {
            return Vec::new();
        }
        let ips = spec.and_then(|s| s.cluster_ips.clone());
        return ips.unwrap_or_default();
    }
    let balancer = service
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref());
    let entries = balancer.and_then(|b| b.ingress.as_ref()).into_iter();
    let entries = entries.flatten();
    entries
        .filter_map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone()))
        .collect()
}

/// What is kept of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The Service of the label `kubernetes.io/service-name`.
    pub service: Option<String>,
    /// Name and number; ports without a number (all ports) are left out.
    pub ports: Box<[(String, u16)]>,
    /// Sorted by address. Endpoints by name (`addressType: FQDN`) are left out.
    pub endpoints: Box<[SliceEndpoint]>,
    /// Names of the Pods that get traffic, where they are data planes of ours: sorted. Of others nobody asks for them.
    pub data_planes: Box<[Arc<str>]>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SliceEndpoint {
    pub address: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// Shared by the endpoints of a slice.
    pub zone: Option<Arc<str>>,
}

impl From<&discovery::EndpointSlice> for EndpointSlice {
    fn from(slice: &discovery::EndpointSlice) -> Self {
        const SERVICE_NAME: &str = "kubernetes.io/service-name";
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|l| l.get(SERVICE_NAME)).cloned();
        let ports = slice.ports.iter().flatten().filter_map(|p| {
            let port = u16::try_from(p.port?).ok().filter(|port| *port != 0)?;
            Some((p.name.clone().unwrap_or_default(), port))
        });
        let mut zones: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut endpoints: Vec<SliceEndpoint> = slice
            .endpoints
            .iter()
            .flatten()
            .filter_map(|e| {
                // All addresses of an endpoint are interchangeable; clients use the first (EndpointSlice API).
                let address = e.addresses.first()?.parse().ok()?;
                let conditions = e.conditions.as_ref();
                // Absent conditions mean ready, as the API says.
                let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
                let zone = e
                    .zone
                    .as_deref()
                    .filter(|zone| !zone.is_empty())
                    .map(|zone| {
                        let known = zones.get(zone).cloned();
                        known.unwrap_or_else(|| {
                            let zone: Arc<str> = zone.into();
                            zones.insert(Arc::clone(&zone));
                            zone
                        })
                    });
                Some(SliceEndpoint {
                    zone,
                    address,
                    ready,
                    serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
                    terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
                })
            })
            .collect();
        endpoints.sort_unstable_by_key(|e| (e.address, std::cmp::Reverse((e.ready, e.serving))));
        endpoints.dedup_by_key(|e| e.address);
        Self {
            service,
            ports: ports.collect(),
            endpoints: endpoints.into(),
            data_planes: match leads_to_us(labels) {
                true => pods_with_traffic(slice),
                false => Box::default(),
            },
        }
    }
}

fn pods_with_traffic(slice: &discovery::EndpointSlice) -> Box<[Arc<str>]> {
    let endpoints = slice.endpoints.iter().flatten();
    let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    let targets = ready.filter_map(|e| e.target_ref.as_ref());
    let pods = targets.filter(|target| target.kind.as_deref() == Some("Pod"));
    let names: BTreeSet<&str> = pods.filter_map(|pod| pod.name.as_deref()).collect();
    names.into_iter().map(Arc::from).collect()
}

/// What is kept of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub labels: BTreeMap<String, String>,
    /// `None`: it has none yet, or it has ended.
    pub address: Option<IpAddr>,
    /// As its condition says, whether it terminates or not.
    pub ready: bool,
    pub terminating: bool,
}

impl From<&core::Pod> for Pod {
    fn from(pod: &core::Pod) -> Self {
        let status = pod.status.as_ref();
        let phase = status.and_then(|s| s.phase.as_deref());
        let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
        let address = status.and_then(|s| s.pod_ip.as_deref()?.parse().ok());
        let mut conditions = status.and_then(|s| s.conditions.as_ref()).into_iter();
        let ready = conditions
            .by_ref()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            address: address.filter(|_| !has_ended),
            ready,
            terminating: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// What is kept of a Namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub labels: BTreeMap<String, String>,
}

impl From<&core::Namespace> for Namespace {
    fn from(namespace: &core::Namespace) -> Self {
        let mut labels = namespace.metadata.labels.clone().unwrap_or_default();
        // The API server sets this label on every Namespace; a file need not.
        if let Some(name) = &namespace.metadata.name {
            let label = labels.entry("kubernetes.io/metadata.name".to_owned());
            label.or_insert_with(|| name.clone());
        }
        Self { labels }
    }
}
