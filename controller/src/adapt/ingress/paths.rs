//! Paths of an Ingress and their types.

use super::annotations::Settings;
use crds::{PathMatch, PathMatchType};
use k8s_openapi::api::networking::v1::HTTPIngressPath;

/// What a path matches; or the field that is wrong, and why.
///
/// `Prefix` goes by segments. So does `ImplementationSpecific`, but where annotations make paths regular expressions
/// (ingress-nginx): these are not case sensitive, and a path may go on behind them.
pub(super) fn read(
    path: &HTTPIngressPath,
    settings: &Settings,
) -> Result<PathMatch, (&'static str, String)> {
    let text = path.path.as_deref().unwrap_or_default();
    let type_ = match path.path_type.as_str() {
        "Exact" => PathMatchType::Exact,
        "Prefix" | "ImplementationSpecific" => PathMatchType::PathPrefix,
        other => {
            let message = format!("must be Exact, Prefix or ImplementationSpecific, not {other:?}");
            return Err(("pathType", message));
        }
    };
    let text = match text {
        "" if type_ == PathMatchType::PathPrefix => "/",
        text => text,
    };
    if !text.starts_with('/') {
        return Err(("path", format!("{text:?} does not begin with /")));
    }
    if type_ == PathMatchType::PathPrefix && settings.reads_as_expression(text) {
        let value = format!("(?i)(?:{text}).*");
        if let Err(e) = model::pattern::whole(&value) {
            let last = e.to_string();
            let last = last.lines().last().unwrap_or_default();
            let last = last.strip_prefix("error: ").unwrap_or(last);
            return Err(("path", format!("{text:?} is no regular expression: {last}")));
        }
        return Ok(PathMatch {
            type_: Some(PathMatchType::RegularExpression),
            value,
        });
    }
    Ok(PathMatch {
        type_: Some(type_),
        value: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::ingress::annotations;

    fn path(type_: &str, text: &str) -> HTTPIngressPath {
        HTTPIngressPath {
            path: (!text.is_empty()).then(|| text.to_owned()),
            path_type: type_.to_owned(),
            ..HTTPIngressPath::default()
        }
    }

    #[test]
    fn types_of_paths() {
        let plain = Settings::default();
        for (type_, text, expected) in [
            ("Exact", "/a", Ok((PathMatchType::Exact, "/a"))),
            ("Prefix", "/a", Ok((PathMatchType::PathPrefix, "/a"))),
            ("Prefix", "", Ok((PathMatchType::PathPrefix, "/"))),
            (
                "ImplementationSpecific",
                "/a/",
                Ok((PathMatchType::PathPrefix, "/a/")),
            ),
            (
                "ImplementationSpecific",
                "",
                Ok((PathMatchType::PathPrefix, "/")),
            ),
            ("Exact", "", Err("path")),
            ("Prefix", "a", Err("path")),
            ("", "/a", Err("pathType")),
            ("Regex", "/a", Err("pathType")),
        ] {
            let got = read(&path(type_, text), &plain);
            let got = got.as_ref().map(|m| (m.type_.unwrap(), m.value.as_str()));
            assert_eq!(got.map_err(|(field, _)| *field), expected, "{type_} {text}");
        }
    }

    #[test]
    fn expressions_where_annotations_say_so() {
        let annotation = |name: &str, value: &str| {
            let name = format!("nginx.ingress.kubernetes.io/{name}");
            annotations::read(&[(name, value.to_owned())].into()).0
        };
        let use_regex = annotation("use-regex", "true");
        let rewrite = annotation("rewrite-target", "/$2");
        let got = |settings, text| read(&path("ImplementationSpecific", text), settings);
        assert_eq!(got(&use_regex, "/a").unwrap().value, "(?i)(?:/a).*");
        let capture = got(&rewrite, "/a(/|$)(.*)").unwrap();
        assert_eq!(capture.value, "(?i)(?:/a(/|$)(.*)).*");
        let plain = got(&rewrite, "/a").unwrap();
        assert_eq!(plain.type_, Some(PathMatchType::PathPrefix));
        let (field, message) = got(&use_regex, "/a(?=b)").unwrap_err();
        assert_eq!(field, "path");
        assert!(message.contains("look-around"), "{message}");
    }
}
