//! Clients that stay with an endpoint, by a cookie.

use super::value::{boolean, seconds};
use super::{Annotation, Complaint, Effect, Rule};
use crds::{AffinityCookie, PathMatchType, SameSite, SessionAffinity};

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: "affinity",
        effect: Effect::Exact(|text, settings| match text {
            "cookie" => {
                settings.affinity.is_on = true;
                Ok(())
            }
            _ => Err(Complaint::Invalid(format!("{text:?} is not cookie"))),
        }),
    },
    Annotation {
        name: "affinity-mode",
        effect: Effect::Differs(
            "a client stays with its endpoint for as long as that takes requests, in both modes",
            |text, _| match text {
                "balanced" | "persistent" => Ok(()),
                _ => Err(Complaint::Invalid(format!(
                    "{text:?} is neither balanced nor persistent"
                ))),
            },
        ),
    },
    Annotation {
        name: "session-cookie-name",
        effect: Effect::Exact(|text, settings| {
            if !model::headers::is_token(text.as_bytes()) {
                let message = format!("{text:?} is not a name of a cookie");
                return Err(Complaint::Invalid(message));
            }
            settings.affinity.name = Some(text.to_owned());
            Ok(())
        }),
    },
    Annotation {
        name: "session-cookie-path",
        effect: Effect::Exact(|text, settings| {
            let is_path = text.starts_with('/')
                && text
                    .bytes()
                    .all(|b| (0x21..=0x7e).contains(&b) && b != b';');
            if !is_path {
                let message = format!("{text:?} is not a path");
                return Err(Complaint::Invalid(message));
            }
            settings.affinity.path = Some(text.to_owned());
            Ok(())
        }),
    },
    Annotation {
        name: "session-cookie-samesite",
        effect: Effect::Differs("Lax where it is not given", |text, settings| {
            settings.affinity.same_site = Some(match text.to_ascii_lowercase().as_str() {
                "strict" => SameSite::Strict,
                "lax" => SameSite::Lax,
                "none" => SameSite::None,
                _ => {
                    let message = format!("{text:?} is none of Strict, Lax and None");
                    return Err(Complaint::Invalid(message));
                }
            });
            Ok(())
        }),
    },
    Annotation {
        name: "session-cookie-secure",
        effect: Effect::Exact(|text, settings| {
            settings.affinity.secure = Some(boolean(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "session-cookie-max-age",
        effect: Effect::Exact(|text, settings| {
            settings.affinity.max_age = Some(seconds(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "session-cookie-expires",
        effect: Effect::Differs("as Max-Age", |text, settings| {
            settings.affinity.expires = Some(seconds(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "session-cookie-change-on-failure",
        effect: Effect::Differs(
            "a request that cannot reach its endpoint goes to another one, in both cases",
            |text, _| boolean(text).map(drop),
        ),
    },
    Annotation {
        name: "session-cookie-conditional-samesite-none",
        effect: Effect::Ignored("SameSite=None is sent to every client"),
    },
    Annotation {
        name: "session-cookie-domain",
        effect: Effect::Ignored("the cookie is for the host of the request"),
    },
    Annotation {
        name: "session-cookie-hash",
        effect: Effect::Ignored("the cookie names an endpoint by a hash of ours"),
    },
];

#[derive(Clone, Debug, Default)]
pub(super) struct Affinity {
    is_on: bool,
    name: Option<String>,
    path: Option<String>,
    same_site: Option<SameSite>,
    secure: Option<bool>,
    max_age: Option<crds::Duration>,
    expires: Option<crds::Duration>,
}

impl Affinity {
    pub(super) fn apply(&self, at: &mut Rule<'_>) {
        if !self.is_on {
            return;
        }
        at.named("sessionAffinity", "affinity");
        let matched = at.matched.filter(|path| {
            path.type_ != Some(PathMatchType::RegularExpression) && path.value.is_ascii()
        });
        // As in ingress-nginx it is for the path alone, where that is plain.
        let path = self
            .path
            .as_deref()
            .or_else(|| matched.map(|path| path.value.as_str()));
        at.rule.session_affinity = Some(SessionAffinity {
            cookie: Some(AffinityCookie {
                name: self.name.as_deref().unwrap_or("INGRESSCOOKIE").into(),
                ttl: self.max_age.clone().or_else(|| self.expires.clone()),
                path: path.map(Into::into),
                secure: self.secure,
                same_site: self.same_site,
            }),
            header: None,
        });
    }
}
