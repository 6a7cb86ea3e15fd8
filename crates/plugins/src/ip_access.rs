//! `IPAccess` lets clients in by their address.
//!
//! ```yaml
//! type: IPAccess
//! ipAccess: {allow: [10.0.0.0/8, 2001:db8::/32], deny: [10.0.0.66]}   # deny wins
//! ```

use crate::{
    Compile, Edits, ErrorCode, Exchange, InvalidSettings, LocalReply, Needs, Plugin, Stages,
    Verdict,
};
use ipnet::IpNet;
use model::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Refuses clients by their address: 403 `forbidden`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IPAccess {
    /// Addresses and CIDRs that are let in. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), inner(length(min = 2, max = 64)))]
    pub allow: Option<Vec<String>>,
    /// Addresses and CIDRs that are refused, also where allow has them. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), inner(length(min = 2, max = 64)))]
    pub deny: Option<Vec<String>>,
}

pub struct Ready {
    /// Empty: everybody.
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl Compile for IPAccess {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        if self.allow.as_ref().is_some_and(Vec::is_empty) {
            let message = "must name at least one address; without the field all are let in";
            return Err(InvalidSettings::new("allow", message));
        }
        Ok(Ready {
            allow: networks(self.allow, "allow")?,
            deny: networks(self.deny, "deny")?,
        })
    }
}

fn networks(list: Option<Vec<String>>, field: &str) -> Result<Vec<IpNet>, InvalidSettings> {
    let list = list.unwrap_or_default();
    let parse = |(i, text): (usize, &String)| {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse::<IpNet>());
        network.map(|n| n.trunc()).map_err(|_| {
            let message = "must be an IP address or a CIDR such as 10.0.0.0/8";
            InvalidSettings::new(format!("{field}[{i}]"), message)
        })
    };
    list.iter().enumerate().map(parse).collect()
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest]),
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        let client = x.request.client.ip().to_canonical();
        let within = |list: &[IpNet]| list.iter().any(|network| network.contains(&client));
        if within(&self.deny) || !self.allow.is_empty() && !within(&self.allow) {
            return Verdict::respond(LocalReply::error(403, ErrorCode::Forbidden, None));
        }
        Verdict::CONTINUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flow;
    use crate::exchange::tests::request;
    use model::Headers;

    fn lets_in(settings: &str, client: &str) -> bool {
        let settings: IPAccess = serde_json::from_str(settings).unwrap();
        let ready = settings.compile().unwrap();
        let headers = Headers::default();
        let mut x = request("GET", "/", &headers);
        x.request.client = (client.parse::<IpAddr>().unwrap(), 1).into();
        match ready.pre_request(&x, &mut Edits::default()) {
            Verdict::Ready(Ok(Flow::Continue)) => true,
            Verdict::Ready(Ok(Flow::Respond(r))) => {
                assert_eq!(
                    (r.status, r.error),
                    (403, Some((ErrorCode::Forbidden, None)))
                );
                false
            }
            _ => panic!("no verdict"),
        }
    }

    #[test]
    fn deny_wins_and_a_list_of_allowed_ones_refuses_the_others() {
        let both = r#"{"allow":["10.0.0.0/8","2001:db8::/32"],"deny":["10.0.0.66","10.9.1.1/16"]}"#;
        for (client, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("10.0.0.66", false),
            ("10.9.255.255", false),
            ("11.0.0.1", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(lets_in(both, client), expected, "{client}");
        }
        assert!(lets_in(r#"{"deny":["10.0.0.1"]}"#, "10.0.0.2"));
        assert!(!lets_in(r#"{"deny":["0.0.0.0/0"]}"#, "10.0.0.2"));
        assert!(lets_in("{}", "10.0.0.2"));
    }

    #[test]
    fn what_is_no_address_is_named() {
        for (json, field) in [
            (r#"{"allow":["10.0.0.0/33"]}"#, "allow[0]"),
            (r#"{"deny":["10.0.0.1","host"]}"#, "deny[1]"),
            (r#"{"allow":[]}"#, "allow"),
        ] {
            let s: IPAccess = serde_json::from_str(json).unwrap();
            assert_eq!(s.compile().err().unwrap().field, field, "{json}");
        }
    }
}
