//! What a registry says: a JSON document with a list of endpoints somewhere in it.

use crate::table::{EndpointLabels, Registered};
use model::{HostPattern, StaticEndpoint};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// Endpoints that are taken of one registry.
pub(super) const ENDPOINTS: usize = 1024;
/// As in `Upstream.spec.endpoints`.
const HEAVIEST: u64 = 1_000_000;
/// Labels of one endpoint.
const LABELS: usize = 64;
/// Bytes of a label's name, and of its value.
const LABEL: usize = 253;

/// The endpoints of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub endpoints: Vec<Registered>,
    /// Elements that are no endpoints, or too many: how many, and what is wrong with the first.
    pub dropped: Option<(usize, String)>,
}

/// Reads the list at `path`.
///
/// # Errors
/// Why there is none: it is then not known which endpoints there are.
pub(super) fn read(text: &[u8], path: &[String]) -> Result<Listed, String> {
    let document: Value = serde_json::from_slice(text).map_err(|e| format!("no JSON: {e}"))?;
    let mut at = &document;
    for name in path {
        at = at.get(name).ok_or_else(|| format!("has no {name:?}"))?;
    }
    let list = at.as_array().ok_or("has no list at jsonPath")?;
    let mut endpoints = Vec::new();
    let mut dropped: Option<(usize, String)> = None;
    for (i, element) in list.iter().enumerate() {
        let why = match endpoint(element) {
            Ok(endpoint) if endpoints.len() < ENDPOINTS => {
                endpoints.push(endpoint);
                continue;
            }
            Ok(_) => format!("more than {ENDPOINTS} endpoints"),
            Err(why) => format!("element {i}: {why}"),
        };
        dropped.get_or_insert((0, why)).0 += 1;
    }
    match dropped {
        Some((_, why)) if endpoints.is_empty() => Err(why),
        dropped => Ok(Listed { endpoints, dropped }),
    }
}

/// `{"address": …, "port": …}`, perhaps with `weight`, `zone` and `labels`, or `"ADDRESS:PORT"`.
fn endpoint(element: &Value) -> Result<Registered, &'static str> {
    Ok(Registered {
        endpoint: place(element)?,
        labels: labels(element.get("labels"))?,
    })
}

fn labels(labels: Option<&Value>) -> Result<EndpointLabels, &'static str> {
    let labels = match labels {
        None | Some(Value::Null) => return Ok(None),
        Some(labels) => labels.as_object().ok_or("labels must be an object")?,
    };
    if labels.len() > LABELS {
        return Err("labels must be at most 64");
    }
    let label = |(name, value): (&String, &Value)| {
        let short = |text: &&str| text.len() <= LABEL;
        let value = value.as_str().filter(short);
        let name = Some(&**name).filter(short);
        Some((name?.to_owned(), value?.to_owned()))
    };
    let labels: Option<Arc<[_]>> = labels.iter().map(label).collect();
    let labels = labels.ok_or("labels must be texts of at most 253 bytes")?;
    Ok(Some(labels).filter(|labels| !labels.is_empty()))
}

fn place(element: &Value) -> Result<StaticEndpoint, &'static str> {
    if let Some(text) = element.as_str() {
        let (address, number) = text.rsplit_once(':').ok_or("must be ADDRESS:PORT")?;
        let port = number.parse().ok().filter(|port| *port > 0);
        return Ok(StaticEndpoint {
            host: host(address)?,
            port: port.ok_or("port must be from 1 to 65535")?,
            weight: 1,
            zone: None,
        });
    }
    let address = element.get("address").and_then(Value::as_str);
    let port = element.get("port").and_then(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok());
    let weight = match element.get("weight") {
        None | Some(Value::Null) => Some(1),
        Some(weight) => weight.as_u64().filter(|weight| *weight <= HEAVIEST),
    };
    let zone = match element.get("zone") {
        None | Some(Value::Null) => None,
        Some(zone) => Some(zone.as_str().ok_or("zone must be a text")?.to_owned()),
    };
    Ok(StaticEndpoint {
        host: host(address.ok_or("address must be a text")?)?,
        port: port
            .filter(|port| *port > 0)
            .ok_or("port must be a number from 1 to 65535")?,
        weight: weight
            .and_then(|weight| u32::try_from(weight).ok())
            .ok_or("weight must be a number from 0 to 1000000")?,
        zone,
    })
}

/// An IP address or a host name, as [`StaticEndpoint`] has them.
fn host(text: &str) -> Result<String, &'static str> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        if address.is_unspecified() || address.is_multicast() {
            return Err("address must be one of a host");
        }
        return Ok(address.to_string());
    }
    match HostPattern::parse(text.strip_suffix('.').unwrap_or(text)) {
        Ok(HostPattern::Exact(name)) => Ok(name.to_string()),
        _ => Err("address must be an IP address or a host name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str, path: &[&str]) -> Result<Vec<String>, String> {
        let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        let listed = read(text.as_bytes(), &path)?;
        let shown = |e: &StaticEndpoint| format!("{}:{} {}", e.host, e.port, e.weight);
        let endpoints = listed.endpoints.iter().map(|r| &r.endpoint);
        Ok(endpoints.map(shown).collect())
    }

    #[test]
    fn both_forms_of_an_endpoint_wherever_the_list_is() {
        let text = r#"{"data": {"items": [{"address": "10.0.0.1", "port": 80, "weight": 5, "zone": "a", "more": 1},
            {"address": "Web.example.com", "port": 81}, "10.0.0.2:82", "[fd00::1]:83"]}}"#;
        let expected = [
            "10.0.0.1:80 5",
            "web.example.com:81 1",
            "10.0.0.2:82 1",
            "fd00::1:83 1",
        ];
        assert_eq!(hosts(text, &["data", "items"]).unwrap(), expected);
        assert!(hosts("[]", &[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_endpoint_costs_only_itself() {
        let text = r#"["10.0.0.1:80", "10.0.0.2", "10.0.0.3:0", {"address": "a b", "port": 1}, {"address": "0.0.0.0", "port": 1},
            {"address": "c", "port": 65616}, {"address": "c", "port": 1, "weight": -1}, {"address": "c", "port": 1, "zone": 1}, 5, null,
            {"address": "c", "port": 1, "labels": []}, {"address": "c", "port": 1, "labels": {"a": 1}}]"#;
        let listed = read(text.as_bytes(), &[]).unwrap();
        assert_eq!(listed.endpoints.len(), 1);
        let first = "element 1: must be ADDRESS:PORT".to_owned();
        assert_eq!(listed.dropped, Some((11, first)));
    }

    #[test]
    fn labels_are_few_short_texts() {
        let of = |labels: Value| {
            let list = serde_json::json!([{"address": "c", "port": 1, "labels": labels}]);
            let listed = read(list.to_string().as_bytes(), &[])?;
            Ok::<_, String>(listed.endpoints[0].labels.clone())
        };
        let many = |n: usize| (0..n).map(|i| (i.to_string(), Value::from("x"))).collect();
        let all = of(serde_json::json!({"tier": "gold", "empty": ""}))
            .unwrap()
            .unwrap();
        let mut all: Vec<_> = all.iter().map(|(n, v)| (&**n, &**v)).collect();
        all.sort_unstable();
        assert_eq!(all, [("empty", ""), ("tier", "gold")]);
        assert_eq!(of(serde_json::json!({})), Ok(None));
        assert!(of(Value::Object(many(64))).is_ok());
        assert!(of(Value::Object(many(65))).is_err());
        assert!(of(serde_json::json!({"a": "x".repeat(254)})).is_err());
        assert!(of(serde_json::json!({"x".repeat(254): "a"})).is_err());
    }

    #[test]
    fn a_document_that_does_not_say_it_is_not_an_empty_list() {
        for (text, path, why) in [
            ("<html>", &[][..], "no JSON"),
            (r#"[{"address": "10.0.0.1""#, &[], "no JSON"),
            ("{}", &["items"], r#"has no "items""#),
            (r#"{"items": {}}"#, &["items"], "has no list at jsonPath"),
            ("null", &[], "has no list at jsonPath"),
            (
                r#"[{"ip": "10.0.0.1"}]"#,
                &[],
                "element 0: address must be a text",
            ),
        ] {
            let error = hosts(text, path).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn there_are_at_most_so_many() {
        let all: Vec<String> = (0..3000)
            .map(|n| format!("10.0.{}.{}:80", n / 250, n % 250))
            .collect();
        let text = serde_json::to_vec(&all).unwrap();
        let listed = read(&text, &[]).unwrap();
        assert_eq!(listed.endpoints.len(), ENDPOINTS);
        assert_eq!(
            listed.dropped,
            Some((3000 - ENDPOINTS, "more than 1024 endpoints".to_owned()))
        );
    }
}
