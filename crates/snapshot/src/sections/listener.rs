use super::health::{concurrency_from_wire, concurrency_to_wire};
use super::upstream::{credential_from_wire, credential_to_wire};
use super::{
    InvalidResource, Kind, Section, hostname_from_wire, networks_from_wire, networks_to_wire,
    origin_from_wire, origin_to_wire, port, tls_version_from_wire, tls_version_to_wire,
};
use crate::pb;
use model::listener::Caps;
use model::{
    AccessLog, ClientValidation, Edge, ErrorTemplate, EscapedSlashes, Forwarded, ForwardedFor,
    Listener, ListenerProtocol, ListenerTls, LogFormat, Metrics, Tracing, Underscores,
};

impl Section for Listener {
    const KIND: Kind = Kind::Listener;
    type Wire = pb::Listener;

    fn to_wire(&self) -> pb::Listener {
        let Self {
            origin,
            name,
            order,
            port,
            protocol,
            hostname,
            health,
            access_log,
            tracing,
            tls,
            proxy_protocol,
            backend_certificate,
            redirect_port,
            forwarded,
            errors,
            shows_revision,
            concurrency,
            metrics,
            caps,
            edge,
            request_header_ms,
            keep_alive_ms,
            drain_ms,
        } = self;
        let Caps {
            header_bytes,
            header_count,
            url_bytes,
            connections,
            requests_per_connection,
        } = *caps;
        pb::Listener {
            origin: origin_to_wire(origin),
            name: name.clone(),
            order: *order,
            port: u32::from(*port),
            protocol: match protocol {
                ListenerProtocol::Http => pb::listener::Protocol::Http,
                ListenerProtocol::Https => pb::listener::Protocol::Https,
                ListenerProtocol::Tls => pb::listener::Protocol::Tls,
                ListenerProtocol::Tcp => pb::listener::Protocol::Tcp,
                ListenerProtocol::Udp => pb::listener::Protocol::Udp,
            }
            .into(),
            hostname: hostname.to_string(),
            health: *health,
            access_log: access_log.as_ref().map(access_log_to_wire),
            tracing: tracing.as_ref().map(tracing_to_wire),
            tls: tls.as_ref().map(tls_to_wire),
            proxy_protocol: *proxy_protocol,
            backend_certificate: backend_certificate.clone(),
            redirect_port: redirect_port.map(u32::from),
            forwarded: Some(forwarded_to_wire(forwarded)),
            errors: errors.iter().map(template_to_wire).collect(),
            shows_revision: *shows_revision,
            concurrency: concurrency.map(concurrency_to_wire),
            metrics: metrics.as_ref().map(metrics_to_wire),
            header_bytes,
            header_count,
            url_bytes,
            connections,
            requests_per_connection,
            edge: (!edge.is_strict()).then(|| edge_to_wire(*edge)),
            request_header_ms: *request_header_ms,
            keep_alive_ms: *keep_alive_ms,
            drain_ms: *drain_ms,
        }
    }

    fn from_wire(w: pb::Listener) -> Result<Self, InvalidResource> {
        let protocol = match w.protocol() {
            pb::listener::Protocol::Http => ListenerProtocol::Http,
            pb::listener::Protocol::Https => ListenerProtocol::Https,
            pb::listener::Protocol::Tls => ListenerProtocol::Tls,
            pb::listener::Protocol::Tcp => ListenerProtocol::Tcp,
            pb::listener::Protocol::Udp => ListenerProtocol::Udp,
            pb::listener::Protocol::Unspecified => {
                return Err(InvalidResource::new(
                    "protocol",
                    "is unknown to this data plane",
                ));
            }
        };
        Ok(Self {
            origin: origin_from_wire(w.origin)?,
            name: w.name,
            order: w.order,
            port: port(w.port, "port")?,
            protocol,
            hostname: hostname_from_wire(&w.hostname, "hostname")?,
            health: w.health,
            access_log: w.access_log.map(access_log_from_wire),
            tracing: w.tracing.map(tracing_from_wire),
            tls: w.tls.map(tls_from_wire).transpose()?,
            proxy_protocol: w.proxy_protocol,
            backend_certificate: w.backend_certificate,
            redirect_port: w
                .redirect_port
                .map(|p| port(p, "redirectPort"))
                .transpose()?,
            forwarded: forwarded_from_wire(w.forwarded.unwrap_or_default())?,
            errors: w
                .errors
                .into_iter()
                .map(template_from_wire)
                .collect::<Result<_, _>>()?,
            shows_revision: w.shows_revision,
            concurrency: w.concurrency.map(concurrency_from_wire),
            metrics: w.metrics.map(metrics_from_wire),
            caps: Caps {
                header_bytes: w.header_bytes,
                header_count: w.header_count,
                url_bytes: w.url_bytes,
                connections: w.connections,
                requests_per_connection: w.requests_per_connection,
            },
            edge: w.edge.map(edge_from_wire).transpose()?.unwrap_or_default(),
            request_header_ms: w.request_header_ms,
            keep_alive_ms: w.keep_alive_ms,
            drain_ms: w.drain_ms,
        })
    }
}

fn edge_to_wire(edge: Edge) -> pb::Edge {
    let Edge {
        escaped_slashes,
        underscores,
    } = edge;
    pb::Edge {
        escaped_slashes: match escaped_slashes {
            EscapedSlashes::Reject => pb::edge::EscapedSlashes::Reject,
            EscapedSlashes::Keep => pb::edge::EscapedSlashes::Keep,
        }
        .into(),
        underscores: match underscores {
            Underscores::Reject => pb::edge::Underscores::Reject,
            Underscores::Drop => pb::edge::Underscores::Drop,
            Underscores::Keep => pb::edge::Underscores::Keep,
        }
        .into(),
    }
}

fn edge_from_wire(w: pb::Edge) -> Result<Edge, InvalidResource> {
    let unknown = |field| InvalidResource::new(field, "is unknown to this data plane");
    Ok(Edge {
        escaped_slashes: match pb::edge::EscapedSlashes::try_from(w.escaped_slashes) {
            Ok(pb::edge::EscapedSlashes::Reject) => EscapedSlashes::Reject,
            Ok(pb::edge::EscapedSlashes::Keep) => EscapedSlashes::Keep,
            Err(_) => return Err(unknown("edge.escapedSlashes")),
        },
        underscores: match pb::edge::Underscores::try_from(w.underscores) {
            Ok(pb::edge::Underscores::Reject) => Underscores::Reject,
            Ok(pb::edge::Underscores::Drop) => Underscores::Drop,
            Ok(pb::edge::Underscores::Keep) => Underscores::Keep,
            Err(_) => return Err(unknown("edge.underscores")),
        },
    })
}

fn metrics_to_wire(metrics: &Metrics) -> pb::Metrics {
    let Metrics {
        by_route,
        by_tenant,
        by_upstream,
        max_series,
        path,
        tokens,
    } = metrics;
    pb::Metrics {
        by_route: *by_route,
        by_tenant: *by_tenant,
        by_upstream: *by_upstream,
        max_series: *max_series,
        asks_token: tokens.is_some(),
        tokens: tokens.iter().flatten().map(credential_to_wire).collect(),
        path: path.clone(),
    }
}

fn metrics_from_wire(w: pb::Metrics) -> Metrics {
    let tokens = w.tokens.into_iter().map(credential_from_wire);
    Metrics {
        by_route: w.by_route,
        by_tenant: w.by_tenant,
        by_upstream: w.by_upstream,
        max_series: w.max_series,
        path: w.path,
        tokens: w.asks_token.then(|| tokens.collect()),
    }
}

fn tracing_to_wire(tracing: &Tracing) -> pb::Tracing {
    let Tracing {
        endpoint,
        grpc,
        headers,
        sample_millionths,
    } = tracing;
    pb::Tracing {
        endpoint: endpoint.clone(),
        grpc: *grpc,
        headers: headers.iter().map(credential_to_wire).collect(),
        sample_millionths: *sample_millionths,
    }
}

fn tracing_from_wire(w: pb::Tracing) -> Tracing {
    Tracing {
        endpoint: w.endpoint,
        grpc: w.grpc,
        headers: w.headers.into_iter().map(credential_from_wire).collect(),
        sample_millionths: w.sample_millionths,
    }
}

fn access_log_to_wire(log: &AccessLog) -> pb::AccessLog {
    let AccessLog {
        format,
        sample_millionths,
        filter,
        to_stderr,
    } = log;
    pb::AccessLog {
        template: match format {
            LogFormat::Json => None,
            LogFormat::Template(template) => Some(template.clone()),
        },
        sample_millionths: *sample_millionths,
        filter: filter.clone(),
        to_stderr: *to_stderr,
    }
}

fn access_log_from_wire(w: pb::AccessLog) -> AccessLog {
    AccessLog {
        format: w.template.map_or(LogFormat::Json, LogFormat::Template),
        sample_millionths: w.sample_millionths,
        filter: w.filter,
        to_stderr: w.to_stderr,
    }
}

fn tls_to_wire(tls: &ListenerTls) -> pb::ListenerTls {
    let ListenerTls {
        certificates,
        default_certificate,
        min_version,
        cipher_suites,
        client,
    } = tls.clone();
    pb::ListenerTls {
        certificates,
        default_certificate,
        min_version: tls_version_to_wire(min_version),
        cipher_suites,
        client: client.map(|c| pb::ClientValidation {
            authorities: c.authorities,
            required: c.required,
            any: c.any,
        }),
    }
}

fn tls_from_wire(w: pb::ListenerTls) -> Result<ListenerTls, InvalidResource> {
    Ok(ListenerTls {
        certificates: w.certificates,
        default_certificate: w.default_certificate,
        min_version: tls_version_from_wire(w.min_version, "tls.minVersion")?,
        cipher_suites: w.cipher_suites,
        client: w.client.map(|c| ClientValidation {
            authorities: c.authorities,
            required: c.required,
            any: c.any,
        }),
    })
}

fn forwarded_to_wire(forwarded: &Forwarded) -> pb::Forwarded {
    use pb::forwarded::Xff;
    let Forwarded {
        xff,
        trusted,
        standard_headers,
    } = forwarded;
    pb::Forwarded {
        xff: match xff {
            ForwardedFor::Drop => Xff::Drop,
            ForwardedFor::Append => Xff::Append,
            ForwardedFor::Set => Xff::Set,
        }
        .into(),
        trusted: networks_to_wire(trusted),
        standard_headers: *standard_headers,
    }
}

fn forwarded_from_wire(w: pb::Forwarded) -> Result<Forwarded, InvalidResource> {
    use pb::forwarded::Xff;
    Ok(Forwarded {
        xff: match Xff::try_from(w.xff) {
            Ok(Xff::Drop) => ForwardedFor::Drop,
            Ok(Xff::Append) => ForwardedFor::Append,
            Ok(Xff::Set) => ForwardedFor::Set,
            Err(_) => {
                let reason = "is unknown to this data plane";
                return Err(InvalidResource::new("forwarded.xff", reason));
            }
        },
        trusted: networks_from_wire(&w.trusted, "forwarded.trusted")?,
        standard_headers: w.standard_headers,
    })
}

fn template_to_wire(template: &ErrorTemplate) -> pb::ErrorTemplate {
    let ErrorTemplate {
        status,
        content_type,
        body,
    } = template.clone();
    pb::ErrorTemplate {
        status: u32::from(status),
        content_type,
        body,
    }
}

fn template_from_wire(w: pb::ErrorTemplate) -> Result<ErrorTemplate, InvalidResource> {
    let status = u16::try_from(w.status)
        .map_err(|_| InvalidResource::new("errors.status", "is not a status code"))?;
    Ok(ErrorTemplate {
        status,
        content_type: w.content_type,
        body: w.body,
    })
}
