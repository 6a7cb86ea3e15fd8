//! gRPC-Web (PROTOCOL-WEB.md of gRPC): what browsers send becomes gRPC, and gRPC's answer what they understand. To
//! everything behind it this is a client of gRPC like any other; nothing is collected, and what is no gRPC-Web passes
//! untouched.
//!
//! - `application/grpc-web` and `-text`, with or without `+proto` and the like; text is base64 in both directions.
//! - Trailers, which a browser does not show, are the last frame of the body. Those of an answer without messages are
//!   in its head and stay there.

use crate::engine::{Down, DownFault, Framing, RequestHead, ResponseHead, Timer, is_grpc};
use crate::h1::Reject;
use crate::h1::encode::LengthMismatch;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use model::Headers;
use model::headers::{InvalidHeader, Known};
use std::task::{Context, Poll, ready};
use std::time::Duration;

const GRPC: &str = "application/grpc";
/// What follows [`GRPC`] in the content type, before `+proto`.
const WEB: &str = "-web";
const TEXT: &str = "-text";
/// The first byte of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;

/// Whether a request is one of gRPC-Web.
pub(super) fn is_request(head: &RequestHead) -> bool {
    head.headers
        .get_known(Known::ContentType)
        .is_some_and(|kind| Form::of(kind).is_some())
}

/// How bodies are written in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Binary,
    Text,
}

impl Form {
    /// Of a content type; and what follows it, such as `+proto`.
    fn of(kind: &[u8]) -> Option<(Self, &[u8])> {
        let rest = after(after(kind, GRPC)?, WEB)?;
        let (form, rest) = match after(rest, TEXT) {
            Some(rest) => (Self::Text, rest),
            None => (Self::Binary, rest),
        };
        matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then_some((form, rest))
    }
}

/// What follows this beginning, in whatever case it is written.
fn after<'a>(text: &'a [u8], beginning: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(beginning.len())?;
    start
        .eq_ignore_ascii_case(beginning.as_bytes())
        .then_some(rest)
}

/// A client of gRPC-Web.
pub(super) struct GrpcWeb<'a> {
    down: &'a mut dyn Down,
    /// Of the request's body, where it is text.
    decoder: Option<Decoder>,
    form: Form,
    /// The answer is one of gRPC that has its trailers at the end.
    translates: Translation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Translation {
    /// No final head has passed, or what follows it is nobody's matter.
    None,
    /// The trailers become the last frame.
    Frames,
}

impl<'a> GrpcWeb<'a> {
    /// Makes the head one of gRPC. `None`: it was none of gRPC-Web.
    ///
    /// # Errors
    /// A head without room.
    pub(super) fn translate(
        down: &'a mut dyn Down,
        head: &mut RequestHead,
    ) -> Result<Option<Self>, InvalidHeader> {
        let kind = head.headers.get_known(Known::ContentType);
        let Some((sent, suffix)) = kind.and_then(Form::of) else {
            return Ok(None);
        };
        let kind = [GRPC.as_bytes(), suffix].concat();
        let accept = head.headers.get("accept").unwrap_or_default();
        let form = match wanted(accept) {
            Some(form) => form,
            None => sent,
        };
        head.headers.set(Known::ContentType.name(), &kind[..])?;
        // They speak of gRPC-Web.
        head.headers.remove("accept");
        head.headers.remove("x-grpc-web");
        if sent == Form::Text && head.framing != Framing::Empty {
            head.framing = Framing::Chunked;
        }
        Ok(Some(Self {
            down,
            decoder: (sent == Form::Text).then(Decoder::default),
            form,
            translates: Translation::None,
        }))
    }

    fn send(&mut self, data: Bytes) -> Result<(), LengthMismatch> {
        match self.form {
            _ if data.is_empty() => Ok(()),
            Form::Binary => self.down.send_body(data),
            // Each piece ends with its own padding, so that nothing waits for what comes next.
            Form::Text => self.down.send_body(BASE64_STANDARD.encode(&data).into()),
        }
    }
}

/// The form that an `Accept` names first.
fn wanted(accept: &[u8]) -> Option<Form> {
    let mut kinds = accept.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    kinds.find_map(|kind| Some(Form::of(kind)?.0))
}

/// The head of an answer as gRPC-Web has it; `None`: it is no answer of gRPC.
fn translated(head: &ResponseHead, form: Form) -> Option<(ResponseHead, Translation)> {
    let kind = head.headers.get_known(Known::ContentType)?;
    let suffix = after(kind, GRPC).filter(|_| is_grpc(kind))?;
    let text = match form {
        Form::Binary => "",
        Form::Text => TEXT,
    };
    let kind = [GRPC.as_bytes(), WEB.as_bytes(), text.as_bytes(), suffix].concat();
    let mut head = head.clone();
    // One field for another that is a few bytes longer.
    head.headers
        .set(Known::ContentType.name(), &kind[..])
        .ok()?;
    head.headers.remove("trailer");
    if head.headers.contains("grpc-status") {
        return Some((head, Translation::None));
    }
    head.framing = Framing::Chunked;
    Some((head, Translation::Frames))
}

/// The last frame of a body.
fn frame(trailers: &Headers) -> Bytes {
    let mut frame = BytesMut::from(&[TRAILERS, 0, 0, 0, 0][..]);
    for (name, value) in trailers.iter() {
        frame.put_slice(name.as_bytes());
        frame.put_slice(b": ");
        frame.put_slice(value);
        frame.put_slice(b"\r\n");
    }
    // Trailers are bounded far below 4 GiB.
    let length = u32::try_from(frame.len() - 5).unwrap_or(0).to_be_bytes();
    for (byte, length) in frame.iter_mut().skip(1).zip(length) {
        *byte = length;
    }
    frame.freeze()
}

impl Down for GrpcWeb<'_> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, DownFault>> {
        let Some(decoder) = &mut self.decoder else {
            return self.down.poll_body(cx);
        };
        const NOT_BASE64: DownFault =
            DownFault::Reject(Reject::bad_request("the body is not base64"));
        loop {
            match ready!(self.down.poll_body(cx))? {
                Some(data) => {
                    let data = decoder.decode(&data).map_err(|_| NOT_BASE64)?;
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                None if decoder.is_between() => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(NOT_BASE64)),
            }
        }
    }

    fn take_trailers(&mut self) -> Option<Box<Headers>> {
        self.down.take_trailers()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<DownFault> {
        self.down.poll_gone(cx)
    }

    fn send_head(&mut self, head: &ResponseHead) {
        if head.is_informational() {
            return self.down.send_head(head);
        }
        match translated(head, self.form) {
            None => self.down.send_head(head),
            Some((head, translation)) => {
                self.translates = translation;
                self.down.send_head(&head);
            }
        }
    }

    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch> {
        match self.translates {
            Translation::None => self.down.send_body(data),
            Translation::Frames => self.send(data),
        }
    }

    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch> {
        match (self.translates, trailers) {
            (Translation::None, _) => self.down.send_end(trailers),
            (Translation::Frames, None) => self.down.send_end(None),
            (Translation::Frames, Some(trailers)) => {
                self.send(frame(trailers))?;
                self.down.send_end(None)
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownFault>> {
        self.down.poll_flush(cx)
    }

    fn queued(&self) -> usize {
        self.down.queued()
    }

    fn is_full(&self) -> bool {
        self.down.is_full()
    }

    fn give_up_body(&mut self) {
        self.down.give_up_body();
    }

    fn answered(&self) -> Option<u16> {
        self.down.answered()
    }

    fn timer(&mut self) -> &mut Timer {
        self.down.timer()
    }

    fn patience(&self) -> Duration {
        self.down.patience()
    }
}

/// Reads base64 as it comes: pieces of any length, and padding wherever four characters end.
#[derive(Default)]
struct Decoder {
    /// The beginning of four characters.
    held: [u8; 4],
    count: usize,
}

/// A text is not base64.
#[derive(Debug, PartialEq, Eq)]
struct NotBase64;

impl Decoder {
    /// Nothing waits for further characters.
    fn is_between(&self) -> bool {
        self.count == 0
    }

    fn decode(&mut self, mut text: &[u8]) -> Result<Bytes, NotBase64> {
        let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
        if self.count > 0 {
            let (start, rest) = text.split_at(text.len().min(4 - self.count));
            self.hold(start);
            text = rest;
            if self.count < 4 {
                return Ok(Bytes::new());
            }
            self.count = 0;
            append(&self.held, &mut out)?;
        }
        let (mut whole, rest) = text.split_at(text.len() - text.len() % 4);
        while !whole.is_empty() {
            // Up to the end of the four characters that are padded.
            let end = whole
                .iter()
                .position(|b| *b == b'=')
                .map(|at| at / 4 * 4 + 4);
            let (piece, others) = whole.split_at(end.unwrap_or(whole.len()));
            append(piece, &mut out)?;
            whole = others;
        }
        self.hold(rest);
        Ok(out.into())
    }

    fn hold(&mut self, text: &[u8]) {
        for (place, byte) in self.held.iter_mut().skip(self.count).zip(text) {
            *place = *byte;
        }
        self.count += text.len();
    }
}

fn append(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
    BASE64_STANDARD.decode_vec(text, out).map_err(|_| NotBase64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_grpc_web() {
        for (kind, expected) in [
            ("application/grpc-web", Some((Form::Binary, ""))),
            ("application/grpc-web+proto", Some((Form::Binary, "+proto"))),
            ("Application/gRPC-Web-Text", Some((Form::Text, ""))),
            (
                "application/grpc-web-text+json",
                Some((Form::Text, "+json")),
            ),
            (
                "application/grpc-web; charset=x",
                Some((Form::Binary, "; charset=x")),
            ),
            ("application/grpc", None),
            ("application/grpc+proto", None),
            ("application/grpc-webber", None),
            ("application/grpc-web-texture", None),
            ("application/json", None),
            ("", None),
        ] {
            let expected = expected.map(|(form, rest)| (form, rest.as_bytes()));
            assert_eq!(Form::of(kind.as_bytes()), expected, "{kind}");
        }
        assert_eq!(wanted(b""), None);
        assert_eq!(wanted(b"*/*"), None);
        let both = b"application/grpc-web-text, application/grpc-web";
        assert_eq!(wanted(both), Some(Form::Text));
    }

    #[test]
    fn base64_is_read_wherever_it_is_split() {
        // As a client writes that encodes each message by itself.
        let text = [b"a".as_slice(), b"bc", b"def", b"ghij", b""]
            .map(|piece| BASE64_STANDARD.encode(piece))
            .concat();
        for size in 1..=text.len() {
            let mut decoder = Decoder::default();
            let mut all = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                all.extend_from_slice(&decoder.decode(piece).unwrap());
            }
            assert!(decoder.is_between());
            assert_eq!(all, b"abcdefghij", "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["a!==", "====", "a===", "YQ=b", "YWJj\r\n==", "YQ==YQ-_"] {
            assert_eq!(
                Decoder::default().decode(text.as_bytes()),
                Err(NotBase64),
                "{text}"
            );
        }
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(b"YWJjZA").unwrap(), "abc");
        assert!(!decoder.is_between(), "the end is missing");
    }

    #[test]
    fn trailers_are_a_frame() {
        let mut trailers = Headers::default();
        trailers.push("Grpc-Status", "5").unwrap();
        trailers.push("grpc-message", "not%20here").unwrap();
        let expected = b"\x80\0\0\0\x2agrpc-status: 5\r\ngrpc-message: not%20here\r\n";
        assert_eq!(frame(&trailers), &expected[..]);
    }

    fn answer(fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead {
            status: 200,
            framing: Framing::Length(5),
            ..ResponseHead::default()
        };
        for (name, value) in fields {
            head.headers.push(name, value).unwrap();
        }
        head
    }

    #[test]
    fn heads_of_answers() {
        let translate = |fields: &[(&str, &str)], form| {
            let (head, translation) = translated(&answer(fields), form)?;
            let kind = head.headers.get("content-type").unwrap().to_vec();
            let frames = translation == Translation::Frames;
            Some((String::from_utf8(kind).unwrap(), head.framing, frames))
        };
        let grpc = [("content-type", "application/grpc+proto")];
        assert_eq!(
            translate(&grpc, Form::Text),
            Some((
                "application/grpc-web-text+proto".into(),
                Framing::Chunked,
                true
            ))
        );
        // Without messages.
        let status = [("content-type", "application/grpc"), ("grpc-status", "5")];
        assert_eq!(
            translate(&status, Form::Binary),
            Some(("application/grpc-web".into(), Framing::Length(5), false))
        );
        for other in ["text/html", "application/grpc-web", "application/json"] {
            assert_eq!(translate(&[("content-type", other)], Form::Binary), None);
        }
        assert_eq!(translate(&[], Form::Binary), None);
    }
}
