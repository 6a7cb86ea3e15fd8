//! Where a body ends: one decoder for every framing.

use super::Reject;
use super::chunked::Chunked;
pub use super::chunked::{Piece, TrailerNames};
use crate::engine::head::Framing;
use bytes::BytesMut;
use model::Headers;

/// Takes one body off the front of a read buffer.
#[derive(Debug, Default)]
pub enum Decoder {
    /// Nothing (more) to come.
    #[default]
    Done,
    /// So many bytes to come, at least one.
    Length(u64),
    Chunked(Chunked),
    /// Everything until the connection ends.
    UntilClose,
}

impl Decoder {
    /// `names`: of trailers.
    pub fn new(framing: Framing, names: TrailerNames) -> Self {
        match framing {
            Framing::Empty | Framing::Length(0) => Self::Done,
            Framing::Length(n) => Self::Length(n),
            Framing::Chunked => Self::Chunked(Chunked::new(names)),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Takes the next piece. Bytes behind the end of the body are left alone.
    ///
    /// # Errors
    /// See [`Chunked::next`].
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Piece, Reject> {
        match self {
            Self::Done => Ok(Piece::End),
            _ if buf.is_empty() && !self.is_done() => Ok(Piece::More),
            Self::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                *left -= n as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Piece::Data(buf.split_to(n).freeze()))
            }
            Self::Chunked(chunked) => chunked.next(buf),
            Self::UntilClose => Ok(Piece::Data(buf.split().freeze())),
        }
    }

    /// Whether the last byte has been taken.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Chunked(chunked) => chunked.is_done(),
            _ => false,
        }
    }

    /// The connection ended: whether the body is complete thereby.
    pub fn ends_at_close(&mut self) -> bool {
        if matches!(self, Self::UntilClose) {
            *self = Self::Done;
        }
        self.is_done()
    }

    /// Bytes still to come, when their number is known.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Length(n) => Some(*n),
            Self::Chunked(chunked) if chunked.is_done() => Some(0),
            _ => None,
        }
    }

    /// The trailers of a chunked body; at most once, after its end.
    pub fn take_trailers(&mut self) -> Option<Box<Headers>> {
        match self {
            Self::Chunked(chunked) => chunked.take_trailers(),
            _ => None,
        }
    }
}
