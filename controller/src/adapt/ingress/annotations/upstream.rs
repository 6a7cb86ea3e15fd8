//! How the Services behind an Ingress are spoken to, and how requests are spread over their endpoints.

use super::value::{boolean, number, switch};
use super::{Annotation, Complaint, Effect};
use crate::adapt::Names;
use crate::adapt::ingress::field_of;
use crds::refs::{ObjectRef, ServiceRef};
use crds::{
    ConsistentHash, HashSource, LbPolicy, LoadBalancing, Protocol, TlsVersion, UpstreamSpec,
    UpstreamTls,
};
use model::HostPattern;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: "backend-protocol",
        effect: Effect::Differs(
            "FCGI is not built, AUTO_HTTP is HTTP; over TLS HTTP/2 is spoken where the backend offers it",
            |text, settings| {
                settings.upstream.protocol = Some(match text.to_ascii_uppercase().as_str() {
                    "HTTP" | "AUTO_HTTP" => Spoken::Http,
                    "HTTPS" => Spoken::Https,
                    "GRPC" => Spoken::Grpc,
                    "GRPCS" => Spoken::Grpcs,
                    "FCGI" => return Err(Complaint::NotSupported("FCGI is not built".to_owned())),
                    _ => {
                        let message =
                            format!("{text:?} is none of HTTP, HTTPS, GRPC, GRPCS and AUTO_HTTP");
                        return Err(Complaint::Invalid(message));
                    }
                });
                Ok(())
            },
        ),
    },
    Annotation {
        name: "proxy-ssl-secret",
        effect: Effect::Differs(
            "tls.crt and tls.key are shown to the backend, ca.crt is what its certificate is checked by; another \
             namespace needs a ReferenceGrant",
            |text, settings| {
                let (namespace, name) = match text.split_once('/') {
                    Some((namespace, name)) => (Some(namespace), name),
                    None => (None, text),
                };
                let is_name = |text: &str| {
                    let letter =
                        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
                    !text.is_empty() && text.bytes().all(letter)
                };
                if !is_name(name) || !namespace.is_none_or(is_name) {
                    let message = format!("{text:?} is not NAMESPACE/NAME of a Secret");
                    return Err(Complaint::Closes(message));
                }
                settings.upstream.secret = Some(ObjectRef {
                    name: name.into(),
                    namespace: namespace.map(Into::into),
                    ..ObjectRef::default()
                });
                Ok(())
            },
        ),
    },
    Annotation {
        name: "proxy-ssl-name",
        effect: Effect::Exact(|text, settings| {
            if !matches!(HostPattern::parse(text), Ok(HostPattern::Exact(_))) {
                let message = format!("{text:?} is not a host name");
                return Err(Complaint::Invalid(message));
            }
            settings.upstream.name = Some(text.to_ascii_lowercase());
            Ok(())
        }),
    },
    Annotation {
        name: "proxy-ssl-server-name",
        effect: Effect::Differs("a name that is given is sent in both cases", |text, _| {
            switch(text).map(drop)
        }),
    },
    Annotation {
        name: "proxy-ssl-verify",
        effect: Effect::Differs("`on` needs proxy-ssl-name", |text, settings| {
            settings.upstream.verify = switch(text)?;
            Ok(())
        }),
    },
    Annotation {
        name: "proxy-ssl-protocols",
        effect: Effect::Differs("TLS 1.2 is the oldest that is spoken", |text, settings| {
            let known = |v: &str| {
                matches!(
                    v,
                    "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3"
                )
            };
            let mut all = text.split_whitespace().peekable();
            if all.peek().is_none() || !all.clone().all(known) {
                let message = format!("{text:?} is no list of TLSv1.2 and TLSv1.3");
                return Err(Complaint::Invalid(message));
            }
            settings.upstream.only_newest = all.all(|v| v == "TLSv1.3");
            Ok(())
        }),
    },
    Annotation {
        name: "proxy-ssl-verify-depth",
        effect: Effect::Differs("chains of any length are followed", |text, _| {
            number(text, 0, 1_000).map(drop)
        }),
    },
    Annotation {
        name: "proxy-ssl-ciphers",
        effect: Effect::Ignored("the cipher suites are those of rustls"),
    },
    Annotation {
        name: "load-balance",
        effect: Effect::Differs("ewma is LeastRequest", |text, settings| {
            settings.upstream.policy = Some(match text {
                "round_robin" => LbPolicy::RoundRobin,
                "ewma" => LbPolicy::LeastRequest,
                _ => {
                    let message = format!("{text:?} is neither round_robin nor ewma");
                    return Err(Complaint::Invalid(message));
                }
            });
            Ok(())
        }),
    },
    Annotation {
        name: "upstream-hash-by",
        effect: Effect::Differs(
            "one of $request_uri and $uri (the path), $remote_addr, $http_NAME, $cookie_NAME and $arg_NAME",
            |text, settings| {
                settings.upstream.hash = Some(hash(text)?);
                Ok(())
            },
        ),
    },
    Annotation {
        name: "upstream-hash-by-subset",
        effect: Effect::Ignored("every endpoint has a part of the hash"),
    },
    Annotation {
        name: "upstream-hash-by-subset-size",
        effect: Effect::Ignored("every endpoint has a part of the hash"),
    },
    Annotation {
        name: "service-upstream",
        effect: Effect::Differs(
            "`true` is not built: requests go to the endpoints",
            |text, _| match boolean(text)? {
                false => Ok(()),
                true => Err(Complaint::NotSupported(
                    "requests go to the endpoints of a Service, not to its address".to_owned(),
                )),
            },
        ),
    },
    Annotation {
        name: "proxy-http-version",
        effect: Effect::Differs("1.0 is not spoken", |text, settings| match text {
            "1.1" => {
                settings.upstream.only_http1 = true;
                Ok(())
            }
            "1.0" => Err(Complaint::NotSupported("HTTP/1.1 is spoken".to_owned())),
            _ => Err(Complaint::Invalid(format!(
                "{text:?} is neither 1.0 nor 1.1"
            ))),
        }),
    },
];

#[derive(Clone, Debug, Default)]
pub(super) struct Speech {
    protocol: Option<Spoken>,
    secret: Option<ObjectRef>,
    name: Option<String>,
    verify: bool,
    only_newest: bool,
    only_http1: bool,
    policy: Option<LbPolicy>,
    hash: Option<ConsistentHash>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Spoken {
    Http,
    Https,
    Grpc,
    Grpcs,
}

impl Speech {
    /// Those of `services` that are spoken to in another way than Services by themselves.
    pub(super) fn upstreams(
        &self,
        services: &BTreeMap<(String, u16), String>,
        external: &BTreeSet<String>,
        out: &mut BTreeMap<(String, u16), (UpstreamSpec, Names)>,
    ) {
        let settings = self.spec();
        for (key @ (service, port), field) in services {
            if settings == UpstreamSpec::default() && !external.contains(service) {
                continue;
            }
            let mut names = Names::default();
            names.add("spec.service", field.clone());
            for (ours, annotation) in [
                ("spec.protocol", "backend-protocol"),
                ("spec.tls", "backend-protocol"),
                ("spec.tls.sni", "proxy-ssl-name"),
                ("spec.tls.caRef", "proxy-ssl-secret"),
                ("spec.tls.clientCertRef", "proxy-ssl-secret"),
                ("spec.lb", "load-balance"),
                ("spec.lb.consistentHash", "upstream-hash-by"),
            ] {
                names.add(ours, field_of(annotation));
            }
            let spec = UpstreamSpec {
                service: Some(ServiceRef {
                    name: service.as_str().into(),
                    namespace: None,
                    port: *port,
                }),
                ..settings.clone()
            };
            out.insert(key.clone(), (spec, names));
        }
    }

    /// Without its source.
    fn spec(&self) -> UpstreamSpec {
        let protocol = match self.protocol {
            Some(Spoken::Grpc) => Some(Protocol::H2C),
            Some(Spoken::Grpcs) => Some(Protocol::H2),
            _ if self.only_http1 => Some(Protocol::H1),
            _ => None,
        };
        let has_tls = matches!(self.protocol, Some(Spoken::Https | Spoken::Grpcs));
        let secret = || self.secret.clone();
        let tls = has_tls.then(|| UpstreamTls {
            sni: self.name.as_deref().map(Into::into),
            ca_ref: secret().filter(|_| self.verify),
            client_cert_ref: secret(),
            insecure_skip_verify: Some(!self.verify),
            min_version: self.only_newest.then_some(TlsVersion::V1_3),
            ..UpstreamTls::default()
        });
        let lb = match (&self.hash, self.policy) {
            (Some(hash), _) => Some(LoadBalancing {
                policy: Some(LbPolicy::ConsistentHash),
                consistent_hash: Some(hash.clone()),
                ..LoadBalancing::default()
            }),
            (None, Some(policy)) => Some(LoadBalancing {
                policy: Some(policy),
                ..LoadBalancing::default()
            }),
            (None, None) => None,
        };
        UpstreamSpec {
            protocol,
            tls,
            lb,
            ..UpstreamSpec::default()
        }
    }
}

fn hash(text: &str) -> Result<ConsistentHash, Complaint> {
    let bare = text.strip_prefix("${").and_then(|t| t.strip_suffix('}'));
    let variable = bare.or_else(|| text.strip_prefix('$')).unwrap_or_default();
    let of = |source, name: Option<String>| ConsistentHash {
        source,
        name: name.as_deref().map(Into::into),
        ..ConsistentHash::default()
    };
    let word = |name: &&str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        !name.is_empty() && name.bytes().all(letter)
    };
    let named = |prefix: &str| variable.strip_prefix(prefix).filter(word);
    Ok(match variable {
        "request_uri" | "uri" => of(HashSource::Path, None),
        "remote_addr" | "binary_remote_addr" => of(HashSource::ClientIP, None),
        _ => {
            if let Some(name) = named("http_") {
                of(HashSource::Header, Some(name.replace('_', "-")))
            } else if let Some(name) = named("cookie_") {
                of(HashSource::Cookie, Some(name.to_owned()))
            } else if let Some(name) = named("arg_") {
                of(HashSource::Query, Some(name.to_owned()))
            } else {
                let message = format!(
                    "{text:?} is none of $request_uri, $uri, $remote_addr, $http_NAME, $cookie_NAME and $arg_NAME"
                );
                return Err(match text.contains('$') {
                    true => Complaint::NotSupported(message),
                    false => Complaint::Invalid(message),
                });
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hashed() {
        let got = |text| hash(text).map(|h| (h.source, h.name.map(|n| n.to_string())));
        let some = |name: &str| Some(name.to_owned());
        for (text, source, name) in [
            ("$request_uri", HashSource::Path, None),
            ("${remote_addr}", HashSource::ClientIP, None),
            ("$http_x_user", HashSource::Header, some("x-user")),
            ("$cookie_session", HashSource::Cookie, some("session")),
            ("$arg_q", HashSource::Query, some("q")),
        ] {
            assert_eq!(got(text), Ok((source, name)), "{text}");
        }
        for other in ["$host$request_uri", "$http_", "x-$uri"] {
            assert!(
                matches!(hash(other), Err(Complaint::NotSupported(_))),
                "{other}"
            );
        }
        assert!(matches!(hash("uri"), Err(Complaint::Invalid(_))));
    }
}
