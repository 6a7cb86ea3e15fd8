//! Answers that send clients elsewhere.

use super::value::{boolean, line, number};
use super::{Annotation, Complaint, Effect, Rule};
use crate::adapt::ingress::{SaidRoute, WHATEVER, field_of};
use crds::header::Header;
use crds::{
    DirectResponse, PathMatch, PathMatchType, Redirect, RouteMatch, RouteRule, RouteSpec, Scheme,
};
use model::HostPattern;

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: "ssl-redirect",
        effect: Effect::Differs(
            "it is on by itself where spec.tls of the same Ingress covers the host, and where there is a listener for HTTPS",
            |text, settings| {
                settings.redirect.ssl = Some(boolean(text)?);
                Ok(())
            },
        ),
    },
    Annotation {
        name: "force-ssl-redirect",
        effect: Effect::Differs("where there is a listener for HTTPS", |text, settings| {
            settings.redirect.force_ssl = boolean(text)?;
            Ok(())
        }),
    },
    Annotation {
        name: "permanent-redirect",
        effect: Effect::Differs(
            "of variables there is `$request_uri` behind a site",
            |text, settings| {
                settings.redirect.permanent = Some(to(text)?);
                Ok(())
            },
        ),
    },
    Annotation {
        name: "permanent-redirect-code",
        effect: Effect::Exact(|text, settings| {
            settings.redirect.permanent_code = Some(code(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "temporal-redirect",
        effect: Effect::Differs(
            "of variables there is `$request_uri` behind a site",
            |text, settings| {
                settings.redirect.temporal = Some(to(text)?);
                Ok(())
            },
        ),
    },
    Annotation {
        name: "temporal-redirect-code",
        effect: Effect::Exact(|text, settings| {
            settings.redirect.temporal_code = Some(code(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "from-to-www-redirect",
        effect: Effect::Exact(|text, settings| {
            settings.redirect.www = boolean(text)?;
            Ok(())
        }),
    },
    Annotation {
        name: "relative-redirects",
        effect: Effect::Ignored("the Location of a redirect is a whole URL"),
    },
];

#[derive(Clone, Debug, Default)]
pub(super) struct Redirects {
    ssl: Option<bool>,
    force_ssl: bool,
    permanent: Option<To>,
    permanent_code: Option<u16>,
    temporal: Option<To>,
    temporal_code: Option<u16>,
    www: bool,
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq)]
enum To {
    /// One URL for every request.
    Url(String),
    /// Path and query stay as they are.
    Site {
        scheme: Option<Scheme>,
        host: String,
        port: Option<u16>,
    },
}

impl Redirects {
    /// Whether that is asked for without regard to certificates.
    pub(super) fn forces_https(&self) -> bool {
        self.force_ssl
    }

    pub(super) fn to_https(&self, has_certificate: bool) -> bool {
        self.force_ssl || has_certificate && self.ssl != Some(false)
    }

    /// Whether the rule is a redirect now, so that nothing else matters.
    pub(super) fn apply(&self, at: &mut Rule<'_>) -> bool {
        let temporal = self.temporal.as_ref();
        let temporal =
            temporal.map(|to| (to, self.temporal_code.unwrap_or(302), "temporal-redirect"));
        let permanent = self.permanent.as_ref();
        let permanent =
            permanent.map(|to| (to, self.permanent_code.unwrap_or(301), "permanent-redirect"));
        let Some((to, status, annotation)) = temporal.or(permanent) else {
            return false;
        };
        at.rule.backends.clear();
        match to {
            To::Url(url) => {
                at.named("directResponse", annotation);
                at.rule.direct_response = Some(DirectResponse {
                    status,
                    headers: vec![Header {
                        name: "location".into(),
                        value: url.as_str().into(),
                    }],
                    ..DirectResponse::default()
                });
            }
            To::Site { scheme, host, port } => {
                at.named("redirect", annotation);
                at.rule.redirect = Some(Redirect {
                    scheme: *scheme,
                    hostname: Some(host.as_str().into()),
                    port: *port,
                    status_code: Some(status),
                    ..Redirect::default()
                });
            }
        }
        true
    }

    /// Each host's twin leads to it. Whatever else is said of the twin goes before.
    pub(super) fn www_twins<'a>(&self, hosts: impl Iterator<Item = &'a str>) -> Vec<SaidRoute> {
        if !self.www {
            return Vec::new();
        }
        let mut all: Vec<String> = Vec::new();
        for host in hosts {
            let host = host.to_ascii_lowercase();
            if matches!(HostPattern::parse(&host), Ok(HostPattern::Exact(_)))
                && !all.contains(&host)
            {
                all.push(host);
            }
        }
        let twin = |host: &str| match host.strip_prefix("www.") {
            Some(rest) => rest.to_owned(),
            None => format!("www.{host}"),
        };
        let lonely = all.iter().filter(|host| !all.contains(&twin(host)));
        lonely
            .map(|host| SaidRoute {
                name: format!("{}/www", twin(host)),
                spec: RouteSpec {
                    hostnames: vec![twin(host).into()],
                    rules: vec![RouteRule {
                        matches: vec![RouteMatch {
                            path: Some(PathMatch {
                                type_: Some(PathMatchType::RegularExpression),
                                value: WHATEVER.to_owned(),
                            }),
                            ..RouteMatch::default()
                        }],
                        redirect: Some(Redirect {
                            hostname: Some(host.as_str().into()),
                            status_code: Some(308),
                            ..Redirect::default()
                        }),
                        ..RouteRule::default()
                    }],
                    ..RouteSpec::default()
                },
                fields: vec![field_of("from-to-www-redirect")],
                ..SaidRoute::default()
            })
            .collect()
    }
}

fn code(text: &str) -> Result<u16, Complaint> {
    match number(text, 300, 308)? {
        code @ (301 | 302 | 303 | 307 | 308) => Ok(u16::try_from(code).unwrap_or(301)),
        _ => Err(Complaint::Invalid(format!(
            "{text:?} is none of 301, 302, 303, 307 and 308"
        ))),
    }
}

fn to(text: &str) -> Result<To, Complaint> {
    let invalid = || Complaint::Invalid(format!("{text:?} is not a URL"));
    let site = text.strip_suffix("$request_uri");
    if site.unwrap_or(text).contains('$') {
        let message =
            format!("variables of nginx are not known but $request_uri at the end: {text:?}");
        return Err(Complaint::NotSupported(message));
    }
    let Some(site) = site else {
        let is_path = text.starts_with('/');
        let is_url = url::Url::parse(text).is_ok_and(|u| matches!(u.scheme(), "http" | "https"));
        return match is_path || is_url {
            true => line(text).map(To::Url),
            false => Err(invalid()),
        };
    };
    let url = url::Url::parse(site).map_err(|_| invalid())?;
    let is_bare = url.path() == "/" && !site.ends_with('/') && url.query().is_none();
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(invalid()),
    };
    let host = url.host_str().unwrap_or_default();
    if !is_bare || !matches!(HostPattern::parse(host), Ok(HostPattern::Exact(_))) {
        let message = format!(
            "before $request_uri there must be a site such as https://example.com: {text:?}"
        );
        return Err(Complaint::NotSupported(message));
    }
    Ok(To::Site {
        scheme: Some(scheme),
        host: host.to_owned(),
        port: url.port(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to() {
        let url = |text: &str| Ok(To::Url(text.to_owned()));
        assert_eq!(to("https://a.test/x?y=1"), url("https://a.test/x?y=1"));
        assert_eq!(to("/login"), url("/login"));
        let site = |port| {
            Ok(To::Site {
                scheme: Some(Scheme::Https),
                host: "a.test".to_owned(),
                port,
            })
        };
        assert_eq!(to("https://a.test$request_uri"), site(None));
        assert_eq!(to("https://a.test:8443$request_uri"), site(Some(8443)));
        for other in [
            "https://$host/",
            "https://a.test/x$request_uri",
            "$scheme://a.test",
        ] {
            assert!(
                matches!(to(other), Err(Complaint::NotSupported(_))),
                "{other}"
            );
        }
        for bad in ["", "a", "ftp://a.test/", "x$request_uri"] {
            assert!(matches!(to(bad), Err(Complaint::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn twins() {
        let redirects = Redirects {
            www: true,
            ..Redirects::default()
        };
        let hosts = ["a.test", "www.b.test", "www.c.test", "c.test", "*.d.test"];
        let routes = redirects.www_twins(hosts.into_iter());
        let names: Vec<_> = routes
            .iter()
            .map(|r| r.spec.hostnames[0].as_str())
            .collect();
        assert_eq!(names, ["www.a.test", "b.test"]);
    }
}
