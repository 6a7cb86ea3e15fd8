//! Who is let in, by address.

use super::value::list;
use super::{Annotation, Complaint, Effect, Rule};
use crds::{PluginType, PluginUse};
use ipnet::IpNet;
use std::net::IpAddr;

const ALLOW: &str = "whitelist-source-range";

pub(super) const LIST: &[Annotation] = &[
    Annotation {
        name: ALLOW,
        effect: Effect::Exact(|text, settings| {
            settings.access.allow = Some(networks(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "allowlist-source-range",
        effect: Effect::Exact(|text, settings| {
            settings.access.allow = Some(networks(text)?);
            Ok(())
        }),
    },
    Annotation {
        name: "denylist-source-range",
        effect: Effect::Exact(|text, settings| {
            settings.access.deny = Some(networks(text)?);
            Ok(())
        }),
    },
];

#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
}

impl Access {
    pub(super) fn apply(&self, at: &mut Rule<'_>) {
        if self.allow.is_none() && self.deny.is_none() {
            return;
        }
        let place = at.rule.plugins.len();
        at.named(&format!("plugins[{place}]"), ALLOW);
        at.rule.plugins.push(PluginUse {
            name: Some("source-range".into()),
            type_: Some(PluginType::IPAccess),
            ip_access: Some(plugins::IPAccess {
                allow: self.allow.clone(),
                deny: self.deny.clone(),
            }),
            ..PluginUse::default()
        });
    }
}

/// What is not understood lets nobody in.
fn networks(text: &str) -> Result<Vec<String>, Complaint> {
    let networks = list(text);
    let wrong = networks
        .iter()
        .find(|n| n.parse::<IpNet>().is_err() && n.parse::<IpAddr>().is_err());
    match wrong {
        Some(wrong) => Err(Complaint::Closes(format!(
            "{wrong:?} is neither a network such as 10.0.0.0/8 nor an IP address"
        ))),
        None if networks.is_empty() => Err(Complaint::Closes("must name a network".to_owned())),
        None => Ok(networks),
    }
}
