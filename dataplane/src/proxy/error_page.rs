//! Bodies of the gateway's own failures by template (features.md F27).

use super::fail::Failure;
use crate::engine::ResponseHead;
use bytes::Bytes;
use model::headers::Known;
use model::{ErrorTemplate, Headers};

/// The body by the template for this status, and its media type in `head`. `None`: there is no template, or the caller
/// speaks gRPC, where a page means nothing.
pub(super) fn body(
    templates: &[ErrorTemplate],
    failure: Failure,
    message: Option<&str>,
    request: Option<&Headers>,
    head: &mut ResponseHead,
) -> Option<Bytes> {
    let template = templates.iter().find(|t| t.status == failure.status)?;
    let of_request = |known| request.and_then(|headers| headers.get_known(known));
    if of_request(Known::ContentType).is_some_and(|t| t.starts_with(b"application/grpc")) {
        return None;
    }
    let content_type = template.content_type.as_bytes();
    head.headers
        .set(Known::ContentType.name(), content_type)
        .ok()?;
    let id = of_request(Known::XRequestId).unwrap_or_default();
    let escape = Escape::of(&template.content_type);
    let mut out = String::with_capacity(template.body.len() + 64);
    let mut rest = template.body.as_str();
    while let Some(at) = rest.find('{') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let placeholder =
            after
                .get(1..)
                .and_then(|t| t.split_once('}'))
                .and_then(|(name, after)| {
                    match name {
                        "status" => out.push_str(itoa::Buffer::new().format(failure.status)),
                        "code" => out.push_str(failure.code),
                        "message" => match message {
                            Some(message) => escape.push(message, &mut out),
                            None => push_readable(failure.code, &mut out),
                        },
                        "request_id" => escape.push(&String::from_utf8_lossy(id), &mut out),
                        // A brace of the text itself, as in a style sheet.
                        _ => return None,
                    }
                    Some(after)
                });
        rest = placeholder.unwrap_or_else(|| {
            out.push('{');
            after.get(1..).unwrap_or_default()
        });
    }
    out.push_str(rest);
    Some(out.into())
}

/// `route_not_found` as `Route not found`.
fn push_readable(code: &str, out: &mut String) {
    for (i, c) in code.chars().enumerate() {
        out.push(match c {
            '_' => ' ',
            c if i == 0 => c.to_ascii_uppercase(),
            c => c,
        });
    }
}

/// How values that others choose are kept from being more than text.
enum Escape {
    Html,
    Json,
    Nothing,
}

impl Escape {
    fn of(content_type: &str) -> Self {
        let kind = content_type.to_ascii_lowercase();
        if kind.contains("json") {
            Self::Json
        } else if kind.contains("html") || kind.contains("xml") || kind.contains("svg") {
            Self::Html
        } else {
            Self::Nothing
        }
    }

    fn push(&self, text: &str, out: &mut String) {
        match self {
            Self::Nothing => out.push_str(text),
            Self::Json => {
                let quoted = serde_json::Value::from(text).to_string();
                let inner = quoted.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
                out.push_str(inner.unwrap_or_default());
            }
            Self::Html => {
                for c in text.chars() {
                    match c {
                        '<' => out.push_str("&lt;"),
                        '>' => out.push_str("&gt;"),
                        '&' => out.push_str("&amp;"),
                        '"' => out.push_str("&quot;"),
                        '\'' => out.push_str("&#39;"),
                        c => out.push(c),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fail;
    use super::*;

    fn page(content_type: &str, text: &str, message: Option<&str>, of: &[(&str, &str)]) -> String {
        let template = ErrorTemplate {
            status: 404,
            content_type: content_type.into(),
            body: text.into(),
        };
        let mut request = Headers::new();
        for (name, value) in of {
            request.push(name, value).unwrap();
        }
        let mut head = ResponseHead::default();
        fail::ROUTE_NOT_FOUND.answer(message, &mut head);
        let body = body(
            &[template],
            fail::ROUTE_NOT_FOUND,
            message,
            Some(&request),
            &mut head,
        );
        let kind = head.headers.get("content-type").unwrap().escape_ascii();
        format!(
            "{kind} {}",
            body.as_deref()
                .map_or("none", |b| std::str::from_utf8(b).unwrap())
        )
    }

    #[test]
    fn placeholders_are_filled_and_escaped_by_content_type() {
        let id = [("x-request-id", "<a\"b>")];
        assert_eq!(
            page(
                "text/html",
                "<style>p{color:red}</style>{status} {code} {message} {request_id}{",
                None,
                &id
            ),
            "text/html <style>p{color:red}</style>404 route_not_found Route not found &lt;a&quot;b&gt;{"
        );
        assert_eq!(
            page(
                "application/json",
                r#"{"m":"{message}","i":"{request_id}"}"#,
                Some("say \"no\""),
                &id
            ),
            r#"application/json {"m":"say \"no\"","i":"<a\"b>"}"#
        );
        assert_eq!(
            page("text/plain", "{message} {{code}}", Some("<x>"), &[]),
            "text/plain <x> {route_not_found}"
        );
        assert_eq!(
            page(
                "text/html",
                "x",
                None,
                &[("content-type", "application/grpc+proto")]
            ),
            "application/json none"
        );
    }

    #[test]
    fn other_statuses_keep_the_catalogue() {
        let template = ErrorTemplate {
            status: 503,
            content_type: "text/plain".into(),
            body: "x".into(),
        };
        let mut head = ResponseHead::default();
        assert!(body(&[template], fail::ROUTE_NOT_FOUND, None, None, &mut head).is_none());
    }
}
