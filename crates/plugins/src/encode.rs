//! Streaming encoders of the three content codings, each within a fixed amount of memory.
//!
//! Windows are small (32 KiB for gzip, 256 KiB for br and zstd): an answer rarely gains from more, and a stream that
//! is held open for hours keeps its encoder for as long.

use crate::{BodyFilter, Failure};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use model::{Coding, limits};
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use zstd::stream::raw::CParameter;

/// Binary logarithm of the window of br and zstd.
const WINDOW_LOG: u32 = 18;
/// Binary logarithm of the number of entries in zstd's tables: they would grow with the level.
const TABLE_LOG: u32 = 16;
/// Highest quality of br; beyond it an encoder takes several times as much memory and time.
const MAX_BR: u8 = 6;

/// Encoders of this process that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Bodies that are being compressed by this process, of [`limits::ENCODERS`].
pub fn open_encoders() -> usize {
    OPEN.load(Ordering::Relaxed)
}

/// Compresses one body.
pub(crate) struct Encoder {
    inner: Inner,
    /// Something was written since the last flush.
    pending: bool,
    _place: Place,
}

enum Inner {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    /// After the end, or after a failure.
    Done,
}

/// One of a fixed number, until it is dropped.
struct Place(&'static AtomicUsize);

impl Place {
    fn take(taken: &'static AtomicUsize, most: usize) -> Option<Self> {
        let more = |n| (n < most).then_some(n + 1);
        let result = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        result.ok().map(|_| Self(taken))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Encoder {
    /// `level`: 1 to 9. `None`: as many bodies as allowed are being compressed, or there is no memory.
    pub(crate) fn open(coding: Coding, level: u8) -> Option<Self> {
        let place = Place::take(&OPEN, limits::ENCODERS)?;
        let inner = match coding {
            Coding::Gzip => {
                let level = Compression::new(level.into());
                Inner::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
            Coding::Br => {
                let params = brotli::enc::BrotliEncoderParams {
                    quality: level.min(MAX_BR).into(),
                    lgwin: WINDOW_LOG as i32,
                    ..Default::default()
                };
                let writer = brotli::CompressorWriter::with_params(Vec::new(), 4096, &params);
                Inner::Br(Box::new(writer))
            }
            Coding::Zstd => Inner::Zstd(Box::new(zstd_encoder(level).ok()?)),
        };
        Some(Self {
            inner,
            pending: false,
            _place: place,
        })
    }

    /// What has been made so far.
    fn take(&mut self) -> Bytes {
        let made = match &mut self.inner {
            Inner::Gzip(w) => std::mem::take(w.get_mut()),
            Inner::Br(w) => std::mem::take(w.get_mut()),
            Inner::Zstd(w) => std::mem::take(w.get_mut()),
            Inner::Done => Vec::new(),
        };
        made.into()
    }

    fn writer(&mut self) -> io::Result<&mut dyn Write> {
        match &mut self.inner {
            Inner::Gzip(w) => Ok(w),
            Inner::Br(w) => Ok(w),
            Inner::Zstd(w) => Ok(w),
            Inner::Done => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

fn zstd_encoder(level: u8) -> io::Result<zstd::stream::write::Encoder<'static, Vec<u8>>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level.into())?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    encoder.set_parameter(CParameter::HashLog(TABLE_LOG))?;
    encoder.set_parameter(CParameter::ChainLog(TABLE_LOG))?;
    Ok(encoder)
}

fn failed(error: io::Error) -> Failure {
    Failure(format!("compression failed: {error}").into())
}

impl BodyFilter for Encoder {
    fn chunk(&mut self, data: Bytes) -> Result<Bytes, Failure> {
        if !data.is_empty() {
            self.pending = true;
            self.writer()
                .and_then(|w| w.write_all(&data))
                .map_err(failed)?;
        }
        Ok(self.take())
    }

    fn flush(&mut self) -> Result<Bytes, Failure> {
        if !std::mem::take(&mut self.pending) {
            return Ok(Bytes::new());
        }
        self.writer().and_then(|w| w.flush()).map_err(failed)?;
        Ok(self.take())
    }

    fn end(&mut self) -> Result<Bytes, Failure> {
        let made = match std::mem::replace(&mut self.inner, Inner::Done) {
            Inner::Gzip(w) => w.finish().map_err(failed)?,
            Inner::Br(w) => w.into_inner(),
            Inner::Zstd(w) => w.finish().map_err(failed)?,
            Inner::Done => Vec::new(),
        };
        Ok(made.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;
    use proptest::prelude::*;

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Br, Coding::Zstd];

    fn filter(coding: Coding, level: u8) -> Encoder {
        Encoder::open(coding, level).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_chunks_and_pauses_decoding_gives_back_what_went_in(
            pieces in prop::collection::vec((prop::collection::vec(prop::num::u8::ANY, 0..3000), 1usize..40, prop::bool::ANY), 0..12),
            level in 1u8..=9,
        ) {
            for coding in ALL {
                let mut encoder = filter(coding, level);
                let (mut plain, mut encoded) = (Vec::new(), Vec::new());
                for (piece, times, pause) in &pieces {
                    let piece = piece.repeat(*times);
                    plain.extend_from_slice(&piece);
                    encoded.extend_from_slice(&encoder.chunk(piece.into()).unwrap());
                    if *pause {
                        encoded.extend_from_slice(&encoder.flush().unwrap());
                    }
                }
                encoded.extend_from_slice(&encoder.end().unwrap());
                prop_assert_eq!(&decode(coding, &encoded, u64::MAX, u64::MAX).unwrap(), &plain);
            }
        }
    }

    #[test]
    fn after_a_pause_everything_written_so_far_can_be_read() {
        for coding in ALL {
            let mut encoder = filter(coding, 4);
            let mut encoded = encoder
                .chunk(Bytes::from_static(b"{\"n\":1}\n"))
                .unwrap()
                .to_vec();
            encoded.extend_from_slice(&encoder.flush().unwrap());
            assert_eq!(crate::decode::prefix(coding, &encoded), b"{\"n\":1}\n");
            assert!(
                encoder.flush().unwrap().is_empty(),
                "nothing new: {coding:?}"
            );
        }
    }

    #[test]
    fn there_is_a_fixed_number_of_places() {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let first = Place::take(&TAKEN, 2).unwrap();
        let _second = Place::take(&TAKEN, 2).unwrap();
        assert!(Place::take(&TAKEN, 2).is_none());
        drop(first);
        assert!(Place::take(&TAKEN, 2).is_some());
    }
}
