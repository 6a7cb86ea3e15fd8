//! Copies of requests.

use super::value::switch;
use super::{Annotation, Complaint, Effect, Rule};
use crate::adapt::Names;
use crate::adapt::ingress::field_of;
use crds::{External, Mirror, UpstreamSpec};

/// Under this name, which no Service has, and port 0 the mirror stands among the Services.
pub(crate) const MIRROR: &str = "/mirror";

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: "mirror-target",
        effect: Effect::Differs(
            "a site, and a path before `$request_uri`; the path and the query of the request are kept",
            |text, settings| {
                settings.mirror = Some(Mirrored { url: target(text)? });
                Ok(())
            },
        ),
    },
    Annotation {
        name: "mirror-request-body",
        effect: Effect::Differs("`off` is not built", |text, _| match switch(text)? {
            true => Ok(()),
            false => Err(Complaint::NotSupported("bodies are copied too".to_owned())),
        }),
    },
    Annotation {
        name: "mirror-host",
        effect: Effect::Ignored("the host of a copy is that of mirror-target"),
    },
];

#[derive(Clone, Debug)]
pub(super) struct Mirrored {
    url: String,
}

impl Mirrored {
    pub(super) fn apply(&self, at: &mut Rule<'_>) {
        at.named("mirrors[0]", "mirror-target");
        at.rule.mirrors.push(Mirror {
            name: MIRROR.into(),
            ..Mirror::default()
        });
    }

    pub(super) fn upstream(&self) -> ((String, u16), (UpstreamSpec, Names)) {
        let mut names = Names::default();
        names.add("spec.external", field_of("mirror-target"));
        let spec = UpstreamSpec {
            external: Some(External {
                url: self.url.as_str().into(),
            }),
            ..UpstreamSpec::default()
        };
        ((MIRROR.to_owned(), 0), (spec, names))
    }
}

fn target(text: &str) -> Result<String, Complaint> {
    let bare = text.strip_suffix("$request_uri").unwrap_or(text);
    if bare.contains('$') {
        let message =
            format!("variables of nginx are not known but $request_uri at the end: {text:?}");
        return Err(Complaint::NotSupported(message));
    }
    let url = url::Url::parse(bare).ok();
    let url = url.filter(|u| matches!(u.scheme(), "http" | "https") && u.query().is_none());
    match url.filter(|u| u.fragment().is_none() && u.username().is_empty()) {
        Some(_) => Ok(bare.to_owned()),
        None => Err(Complaint::Invalid(format!("{text:?} is not a URL"))),
    }
}
