//! Heads and trailers between our form and that of HTTP/2 (RFC 9113 section 8).

use crate::engine::fault::UpFault;
use crate::engine::head::{Framing, RequestHead, ResponseHead, Version};
use crate::engine::websocket;
use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use model::Headers;
use model::headers::Known;
use std::net::SocketAddr;

const TARGET: UpFault = UpFault::Protocol("target cannot be sent over HTTP/2");
const HOST: UpFault = UpFault::Protocol("host cannot be sent over HTTP/2");
const FIELD: UpFault = UpFault::Protocol("field cannot be sent over HTTP/2");

/// The request as HTTP/2 sends it: `Host` becomes `:authority`, fields of the connection stay behind, a known length
/// is stated. An HTTP/1.0 request without a host is addressed to the upstream itself. `tunnel`: the protocol that the
/// stream is to speak, asked for by an extended CONNECT (RFC 8441 section 4).
///
/// # Errors
/// A part that HTTP/2 cannot carry.
pub(super) fn request(
    head: &RequestHead,
    tls: bool,
    peer: SocketAddr,
    tunnel: Option<&str>,
) -> Result<Request<()>, UpFault> {
    let mut parts = Request::new(()).into_parts().0;
    match tunnel {
        None => {
            let method = head.method.as_str().as_bytes();
            parts.method = http::Method::from_bytes(method).map_err(|_| FIELD)?;
        }
        Some(protocol) => {
            parts.method = http::Method::CONNECT;
            parts.extensions.insert(Protocol::from(protocol));
        }
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    let host = head.headers.get_known(Known::Host).unwrap_or_default();
    uri.authority = Some(if host.is_empty() {
        Authority::try_from(peer.to_string()).map_err(|_| HOST)?
    } else {
        Authority::try_from(host).map_err(|_| HOST)?
    });
    uri.path_and_query = Some(PathAndQuery::try_from(head.target.as_str()).map_err(|_| TARGET)?);
    parts.uri = Uri::from_parts(uri).map_err(|_| TARGET)?;
    parts.version = http::Version::HTTP_2;
    let mut grpc = false;
    let mut trailers = false;
    for (name, value) in head.headers.iter() {
        match Known::of(name.as_bytes()) {
            Known::Host => continue,
            // What the client said of trailers; nothing else may stand in this field here.
            Known::Te => {
                trailers |= value.eq_ignore_ascii_case(b"trailers");
                continue;
            }
            Known::ContentType => grpc = is_grpc(value),
            known if known.is_hop_by_hop() => continue,
            // Here there is nothing to prove (RFC 8441 section 5).
            _ if tunnel.is_some() && name == websocket::KEY => continue,
            _ => {}
        }
        append(&mut parts.headers, name, value)?;
    }
    if let Framing::Length(n) = head.framing {
        parts.headers.insert(http::header::CONTENT_LENGTH, n.into());
    }
    if grpc || trailers {
        let te = HeaderValue::from_static("trailers");
        parts.headers.insert(http::header::TE, te);
    }
    Ok(Request::from_parts(parts, ()))
}

/// Whether a content type is that of gRPC (`application/grpc`, `application/grpc+proto`), not of gRPC-Web.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type
        .split_at_checked(GRPC.len())
        .is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
        })
}

fn append(map: &mut HeaderMap, name: &str, value: &[u8]) -> Result<(), UpFault> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| FIELD)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| FIELD)?;
    map.try_append(name, value).map_err(|_| FIELD)?;
    Ok(())
}

/// Reads a head into ours. `ended`: no body follows.
///
/// # Errors
/// The reason in words.
pub(super) fn response(
    status: http::StatusCode,
    fields: &HeaderMap,
    ended: bool,
    head: &mut ResponseHead,
) -> Result<(), &'static str> {
    head.status = status.as_u16();
    head.version = Version::Http11;
    head.headers.clear();
    let mut length = None;
    for (name, value) in fields {
        match Known::of(name.as_str().as_bytes()) {
            Known::ContentLength => {
                let n = content_length(value.as_bytes())?;
                if length.replace(n).is_some() {
                    return Err("content-length is repeated");
                }
                continue;
            }
            known if known.is_hop_by_hop() => continue,
            _ => {}
        }
        push(&mut head.headers, name, value)?;
    }
    head.framing = match length {
        Some(n) => Framing::Length(n),
        None if ended => Framing::Empty,
        None => Framing::Chunked,
    };
    Ok(())
}

fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .ok_or("content-length is not a plain number")
}

fn push(to: &mut Headers, name: &HeaderName, value: &HeaderValue) -> Result<(), &'static str> {
    to.push(name.as_str(), value.as_bytes().trim_ascii())
        .map_err(|_| "answer head is not valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::head::Method;

    fn get(host: &str, target: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.target.set_path(target);
        if !host.is_empty() {
            head.headers.push("host", host).unwrap();
        }
        head
    }

    fn peer() -> SocketAddr {
        "127.0.0.1:81".parse().unwrap()
    }

    #[test]
    fn host_becomes_authority_and_fields_of_the_connection_stay_behind() {
        let mut head = get("shop.example:8080", "/a?b=c");
        head.method = Method::Post;
        head.framing = Framing::Length(7);
        for (name, value) in [
            ("cookie", "a=1"),
            ("te", "gzip"),
            ("connection", "close"),
            ("upgrade", "x"),
            ("x-a", "1"),
        ] {
            head.headers.push(name, value).unwrap();
        }
        let request = request(&head, true, peer(), None).unwrap();
        assert_eq!(request.uri(), "https://shop.example:8080/a?b=c");
        assert_eq!(request.method(), "POST");
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "cookie", "x-a"]);
        assert_eq!(request.headers()["content-length"], "7");
    }

    #[test]
    fn a_request_without_host_is_addressed_to_the_peer() {
        let request = request(&get("", "/"), false, peer(), None).unwrap();
        assert_eq!(request.uri(), "http://127.0.0.1:81/");
    }

    #[test]
    fn a_tunnel_is_asked_for_by_an_extended_connect() {
        let mut head = get("h", "/chat?x=1");
        for (name, value) in [
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ] {
            head.headers.push(name, value).unwrap();
        }
        let request = request(&head, true, peer(), Some("websocket")).unwrap();
        assert_eq!(request.method(), "CONNECT");
        assert_eq!(request.uri(), "https://h/chat?x=1");
        let protocol = request.extensions().get::<Protocol>().unwrap();
        assert_eq!(protocol.as_str(), "websocket");
        let names: Vec<_> = request.headers().keys().collect();
        assert_eq!(names, ["sec-websocket-version"]);
    }

    #[test]
    fn trailers_are_announced_for_grpc_and_when_the_client_did() {
        let mut head = get("h", "/");
        head.headers
            .push("content-type", "application/grpc+proto")
            .unwrap();
        assert_eq!(
            request(&head, true, peer(), None).unwrap().headers()["te"],
            "trailers"
        );
        let mut head = get("h", "/");
        head.headers.push("te", "trailers").unwrap();
        assert_eq!(
            request(&head, true, peer(), None).unwrap().headers()["te"],
            "trailers"
        );
        for other in ["application/grpc-web", "application/grpcx", "text/plain"] {
            assert!(!is_grpc(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let mut head = ResponseHead::default();
        let mut read = |pairs: &[(&str, &str)], ended| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                append(&mut map, name, value.as_bytes()).unwrap();
            }
            let result = response(http::StatusCode::OK, &map, ended, &mut head);
            result.map(|()| head.framing)
        };
        assert_eq!(
            read(&[("content-length", "5")], false),
            Ok(Framing::Length(5))
        );
        assert_eq!(read(&[], true), Ok(Framing::Empty));
        assert_eq!(read(&[("keep-alive", "1")], false), Ok(Framing::Chunked));
        for bad in ["+5", "", "5, 5", "0x1", "99999999999999999999999"] {
            assert!(read(&[("content-length", bad)], false).is_err(), "{bad}");
        }
        assert!(read(&[("content-length", "5"), ("content-length", "5")], false).is_err());
        assert!(!head.headers.contains("keep-alive"));
    }
}
