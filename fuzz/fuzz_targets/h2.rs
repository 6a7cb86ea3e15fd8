//! HTTP/2 connections of frames in any order and with any settings: each comes to its end, and none panics.
#![no_main]

use arbitrary::Arbitrary;
use diolkos_fuzz::serve;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Frame {
    Settings(Vec<(u8, u32)>),
    SettingsAck,
    /// Fields of the static table, and one literal.
    Headers {
        stream: u8,
        end: bool,
        rest: bool,
        indexed: Vec<u8>,
        name: Vec<u8>,
        value: Vec<u8>,
    },
    Continuation {
        stream: u8,
        end: bool,
        block: Vec<u8>,
    },
    Data {
        stream: u8,
        end: bool,
        padded: bool,
        bytes: Vec<u8>,
    },
    WindowUpdate {
        stream: u8,
        by: u32,
    },
    Reset {
        stream: u8,
        code: u32,
    },
    Ping {
        ack: bool,
        with: u64,
    },
    GoAway {
        last: u32,
        code: u32,
    },
    Priority {
        stream: u8,
        on: u32,
        weight: u8,
    },
    Any {
        kind: u8,
        flags: u8,
        stream: u32,
        payload: Vec<u8>,
    },
    /// The length field does not tell the truth.
    Torn {
        length: u32,
        kind: u8,
        flags: u8,
        stream: u8,
        payload: Vec<u8>,
    },
}

fn frame(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

impl Frame {
    fn write(&self, out: &mut Vec<u8>) {
        let mut whole = |kind, flags, stream: u32, payload: &[u8]| {
            frame(out, payload.len(), kind, flags, stream, payload);
        };
        match self {
            Self::Settings(list) => {
                let entry = |(id, value): &(u8, u32)| {
                    let [a, b, c, d] = value.to_be_bytes();
                    [0, *id, a, b, c, d]
                };
                whole(4, 0, 0, &list.iter().flat_map(entry).collect::<Vec<u8>>());
            }
            Self::SettingsAck => whole(4, 1, 0, &[]),
            Self::Headers {
                stream,
                end,
                rest,
                indexed,
                name,
                value,
            } => {
                let mut block: Vec<u8> = indexed.iter().map(|i| 0x80 | i).collect();
                let literal = |out: &mut Vec<u8>, text: &[u8]| {
                    let text = &text[..text.len().min(126)];
                    out.push(text.len() as u8);
                    out.extend_from_slice(text);
                };
                if !name.is_empty() {
                    block.push(0);
                    literal(&mut block, name);
                    literal(&mut block, value);
                }
                whole(
                    1,
                    u8::from(*end) | if *rest { 0 } else { 4 },
                    (*stream).into(),
                    &block,
                );
            }
            Self::Continuation { stream, end, block } => {
                whole(9, if *end { 4 } else { 0 }, (*stream).into(), block);
            }
            Self::Data {
                stream,
                end,
                padded,
                bytes,
            } => {
                whole(
                    0,
                    u8::from(*end) | if *padded { 8 } else { 0 },
                    (*stream).into(),
                    bytes,
                );
            }
            Self::WindowUpdate { stream, by } => whole(8, 0, (*stream).into(), &by.to_be_bytes()),
            Self::Reset { stream, code } => whole(3, 0, (*stream).into(), &code.to_be_bytes()),
            Self::Ping { ack, with } => whole(6, u8::from(*ack), 0, &with.to_be_bytes()),
            Self::GoAway { last, code } => {
                whole(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
            }
            Self::Priority { stream, on, weight } => {
                whole(
                    2,
                    0,
                    (*stream).into(),
                    &[&on.to_be_bytes()[..], &[*weight]].concat(),
                );
            }
            Self::Any {
                kind,
                flags,
                stream,
                payload,
            } => whole(*kind, *flags, *stream, payload),
            Self::Torn {
                length,
                kind,
                flags,
                stream,
                payload,
            } => {
                frame(
                    out,
                    (*length & 0xff_ffff) as usize,
                    *kind,
                    *flags,
                    (*stream).into(),
                    payload,
                );
            }
        }
    }
}

fuzz_target!(|input: (u8, Vec<Frame>)| {
    let (at_once, frames) = input;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    for f in &frames {
        f.write(&mut bytes);
    }
    serve(&bytes, bytes.len());
    serve(&bytes, usize::from(at_once));
});
