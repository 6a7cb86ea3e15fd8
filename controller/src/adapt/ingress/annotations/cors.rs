//! Which other sites may read answers.

use super::value::{boolean, list, number};
use super::{Annotation, Complaint, Effect, Rule};
use crds::{PluginType, PluginUse};

const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
const MAX_AGE: u32 = 1_728_000;

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: "enable-cors",
        effect: Effect::Differs(
            "OPTIONS that is no preflight request goes to the backend",
            |text, settings| {
                settings.cors.is_on = boolean(text)?;
                Ok(())
            },
        ),
    },
    Annotation {
        name: "cors-allow-origin",
        effect: Effect::Exact(|text, settings| {
            let (origins, others): (Vec<_>, Vec<_>) = list(text)
                .into_iter()
                .partition(|origin| plugins::CORS::is_origin(origin));
            let wrong = match origins.is_empty() {
                true => Some(text),
                false => others.first().map(String::as_str),
            };
            let message =
                wrong.map(|wrong| format!("{wrong:?} is no origin such as https://example.com"));
            // Where none is left, none is allowed: who names some does not mean all.
            settings.cors.origins = Some(origins);
            message.map_or(Ok(()), |message| Err(Complaint::Invalid(message)))
        }),
    },
    Annotation {
        name: "cors-allow-methods",
        effect: Effect::Exact(|text, settings| {
            settings.cors.methods = Some(names(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "cors-allow-headers",
        effect: Effect::Exact(|text, settings| {
            settings.cors.headers = Some(names(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "cors-expose-headers",
        effect: Effect::Exact(|text, settings| {
            settings.cors.expose = Some(names(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "cors-allow-credentials",
        effect: Effect::Differs(
            "not beside the origin `*`, where browsers refuse them anyway",
            |text, settings| {
                settings.cors.credentials = Some(boolean(text)?);
                Ok(())
            },
        ),
    },
    Annotation {
        name: "cors-max-age",
        effect: Effect::Exact(|text, settings| {
            settings.cors.max_age = Some(number(text, 0, 31_536_000)?);
            Ok(())
        }),
    },
];

#[derive(Clone, Debug, Default)]
pub(super) struct Cors {
    is_on: bool,
    origins: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    headers: Option<Vec<String>>,
    expose: Option<Vec<String>>,
    credentials: Option<bool>,
    max_age: Option<u32>,
}

impl Cors {
    pub(super) fn apply(&self, at: &mut Rule<'_>) {
        if !self.is_on {
            return;
        }
        let origins = self.origins.clone().unwrap_or_else(|| vec!["*".to_owned()]);
        let any = origins.iter().any(|origin| origin == "*");
        let place = at.rule.plugins.len();
        at.named(&format!("plugins[{place}]"), "enable-cors");
        at.named(
            &format!("plugins[{place}].cors.allowOrigins"),
            "cors-allow-origin",
        );
        at.rule.plugins.push(PluginUse {
            name: Some("cors".into()),
            type_: Some(PluginType::CORS),
            cors: Some(plugins::CORS {
                allow_origins: Some(origins),
                allow_methods: Some(self.methods.clone().unwrap_or_else(|| list(METHODS))),
                allow_headers: Some(self.headers.clone().unwrap_or_else(|| list(HEADERS))),
                expose_headers: self.expose.clone(),
                allow_credentials: Some(!any && self.credentials.unwrap_or(true)),
                max_age: Some(format!("{}s", self.max_age.unwrap_or(MAX_AGE))),
            }),
            ..PluginUse::default()
        });
    }
}

fn names(text: &str) -> Result<Vec<String>, Complaint> {
    let names = list(text);
    let is_name = |name: &String| model::headers::is_token(name.as_bytes());
    match !names.is_empty() && names.iter().all(is_name) {
        true => Ok(names),
        false => Err(Complaint::Invalid(format!("{text:?} is no list of names"))),
    }
}
