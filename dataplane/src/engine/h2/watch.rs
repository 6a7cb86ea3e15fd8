//! Counts the frames of an HTTP/2 connection as they pass, and stops a client that sends many to no purpose.
//!
//! The `h2` crate bounds what costs memory: header lists, CONTINUATION frames (five without an end), streams, resets
//! before a stream is accepted, its own resets, small and empty DATA frames. It does not bound frames that cost time
//! only: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM of accepted streams, and unknown ones. These are counted
//! here from the nine bytes of their heads; a client with a purpose (one that takes an answer or opens streams) may send
//! more of them.
//!
//! It also gathers what is written in one turn of the connection: the crate writes each DATA frame by itself, and many
//! answers of one turn shall cost one system call, and one record of TLS.

use crate::engine::buffers;
use bytes::{Buf, BytesMut};
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// For how long frames are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// PING frames in one window, beside those that progress allows.
const PINGS: u32 = 100;
/// SETTINGS frames in one window.
const SETTINGS: u32 = 50;
/// RST_STREAM frames in one window, beside those that answers allow: who has an answer may lose interest in the rest.
const RESETS: u32 = 100;
/// PRIORITY, WINDOW_UPDATE and unknown frames in one window, beside those that progress and new streams allow.
const OTHERS: u32 = 100;
/// Further of the others for each stream: browsers send a window and a priority with it.
const OTHERS_A_STREAM: u32 = 4;
/// Bytes of answers that allow one PING or one of the others more.
const PROGRESS: u64 = 16;
/// Bytes that are read and dropped after the last frame, so that the client sees it rather than a reset.
const LINGER: usize = 256 << 10;
/// Bytes that are gathered at most before they are written.
const GATHER: usize = buffers::READ;
/// A write of so much goes out as it is: copying it would cost more than a system call.
const LARGE: usize = 8 << 10;
/// What a client's side begins with (RFC 9113 section 3.4).
pub(in crate::engine) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS_FRAME: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// Too many frames of one kind.
    Flood,
    /// The first frame is not SETTINGS (RFC 9113 section 3.4).
    Preface,
}

/// What is known about a connection's frames, for whoever serves the connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    violation: AtomicU8,
    resets_in: AtomicU32,
    resets_out: AtomicU32,
    settings: AtomicBool,
    in_block: AtomicBool,
    closing: AtomicBool,
    /// Writes are gathered.
    gathers: AtomicBool,
    /// Something has been gathered that is not written.
    gathered: AtomicBool,
    /// Bytes that the socket has taken.
    taken: AtomicU64,
    /// The socket has no room for more,
    full: AtomicBool,
    /// or keeps what TLS has made of it.
    behind: AtomicBool,
}

impl Watch {
    /// Reading has stopped for this reason.
    pub(super) fn violation(&self) -> Option<Violation> {
        match self.violation.load(Relaxed) {
            0 => None,
            1 => Some(Violation::Flood),
            _ => Some(Violation::Preface),
        }
    }

    /// RST_STREAM frames that the client and that we have sent since the last call.
    pub(super) fn take_resets(&self) -> (u32, u32) {
        let take = |n: &AtomicU32| match n.load(Relaxed) {
            0 => 0,
            _ => n.swap(0, Relaxed),
        };
        (take(&self.resets_in), take(&self.resets_out))
    }

    /// The client's settings have come.
    pub(super) fn has_settings(&self) -> bool {
        self.settings.load(Relaxed)
    }

    /// A header block has begun and not ended.
    pub(super) fn in_block(&self) -> bool {
        self.in_block.load(Relaxed)
    }

    /// Our direction has ended; what the client still sends is dropped.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// From now on writes are gathered. Whoever says so says [`Watch::release`] before it waits.
    pub(super) fn gather(&self) {
        self.gathers.store(true, Relaxed);
    }

    /// Writes are no longer gathered; whether there is something that the next flush writes.
    pub(super) fn release(&self) -> bool {
        self.gathers.swap(false, Relaxed) && self.gathered.load(Relaxed)
    }

    /// Bytes that the socket has taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Something waits until the socket has room again.
    pub(super) fn is_blocked(&self) -> bool {
        self.full.load(Relaxed) || self.behind.load(Relaxed)
    }

    /// Remembers how a write to the socket went. One task does all of them.
    fn wrote(&self, how: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &how {
            self.taken.store(self.taken() + *n as u64, Relaxed);
        }
        self.full.store(how.is_pending(), Relaxed);
        how
    }

    fn stop(&self, why: Violation) {
        let code = match why {
            Violation::Flood => 1,
            Violation::Preface => 2,
        };
        self.violation.store(code, Relaxed);
    }
}

/// A client's transport under an HTTP/2 connection, watched.
pub(super) struct Watched<S> {
    socket: S,
    /// What was read before: goes first.
    ahead: BytesMut,
    incoming: Frames,
    outgoing: Frames,
    counts: Counts,
    watch: Arc<Watch>,
    /// What waits to be written together; a borrowed buffer as long as that is something.
    gathered: BytesMut,
    /// Bytes dropped after the end of our direction.
    dropped: usize,
    shut: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, ahead: BytesMut, watch: Arc<Watch>) -> Self {
        Self {
            socket,
            ahead,
            incoming: Frames::after(PREFACE.len()),
            outgoing: Frames::after(0),
            counts: Counts::default(),
            watch,
            gathered: BytesMut::new(),
            dropped: 0,
            shut: false,
        }
    }

    /// Judges bytes that have arrived; how many of them may be passed on.
    fn arrived(&mut self, bytes: &[u8]) -> usize {
        let (watch, counts) = (&*self.watch, &mut self.counts);
        let passed = self.incoming.scan(bytes, |frame| {
            if frame.kind == RST_STREAM {
                watch.resets_in.fetch_add(1, Relaxed);
            }
            match counts.take(frame) {
                Ok(()) => true,
                Err(why) => {
                    watch.stop(why);
                    false
                }
            }
        });
        if counts.settings_came && !watch.has_settings() {
            watch.settings.store(true, Relaxed);
        }
        let in_block = counts.block_open || (self.incoming.skip > 0 && counts.in_headers);
        if in_block != watch.in_block() {
            watch.in_block.store(in_block, Relaxed);
        }
        passed
    }

    fn left(&mut self, bytes: &[u8]) {
        let (watch, counts) = (&*self.watch, &mut self.counts);
        self.outgoing.scan(bytes, |frame| {
            match frame.kind {
                DATA | HEADERS => {
                    counts.progress += u64::from(frame.len);
                    counts.answers += u32::from(frame.kind == HEADERS);
                }
                RST_STREAM => {
                    watch.resets_out.fetch_add(1, Relaxed);
                }
                _ => {}
            }
            true
        });
    }
}

/// The head of one frame.
#[derive(Clone, Copy)]
struct Frame {
    len: u32,
    kind: u8,
    flags: u8,
}

/// Finds the heads of frames in a stream of bytes.
#[derive(Default)]
struct Frames {
    head: [u8; 9],
    have: usize,
    /// Bytes of the current frame's payload (at first: of the preface) that are still to come.
    skip: usize,
}

impl Frames {
    fn after(preface: usize) -> Self {
        Self {
            skip: preface,
            ..Self::default()
        }
    }

    /// Calls `each` with every head that is completed by `bytes`, until it says no; how many bytes came before that head.
    fn scan(&mut self, bytes: &[u8], mut each: impl FnMut(Frame) -> bool) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let n = (self.head.len() - self.have).min(rest.len());
            let (part, after) = rest.split_at(n);
            if let Some(to) = self.head.get_mut(self.have..self.have + n) {
                to.copy_from_slice(part);
            }
            self.have += n;
            if self.have == self.head.len() {
                self.have = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                let len = u32::from_be_bytes([0, a, b, c]);
                if !each(Frame { len, kind, flags }) {
                    return bytes.len() - rest.len();
                }
                self.skip = len as usize;
            }
            rest = after;
        }
        bytes.len()
    }
}

/// Frames of the current window.
#[derive(Default)]
struct Counts {
    since: Option<Instant>,
    pings: u32,
    settings: u32,
    resets: u32,
    others: u32,
    streams: u32,
    /// HEADERS frames that we have sent.
    answers: u32,
    /// Bytes of DATA and HEADERS frames that we have sent.
    progress: u64,
    settings_came: bool,
    /// A header block waits for its CONTINUATION.
    block_open: bool,
    /// The last frame belongs to a header block.
    in_headers: bool,
}

impl Counts {
    fn take(&mut self, frame: Frame) -> Result<(), Violation> {
        self.in_headers = false;
        if !self.settings_came {
            if frame.kind != SETTINGS_FRAME || frame.flags & ACK != 0 {
                return Err(Violation::Preface);
            }
            self.settings_came = true;
        }
        let (count, allowed) = match frame.kind {
            DATA => return Ok(()),
            HEADERS | CONTINUATION => {
                self.streams += u32::from(frame.kind == HEADERS);
                self.block_open = frame.flags & END_HEADERS == 0;
                self.in_headers = true;
                return Ok(());
            }
            PING => (&mut self.pings, PINGS),
            SETTINGS_FRAME => (&mut self.settings, SETTINGS),
            RST_STREAM => (&mut self.resets, RESETS),
            _ => {
                let more = self.streams.saturating_mul(OTHERS_A_STREAM);
                (&mut self.others, OTHERS.saturating_add(more))
            }
        };
        *count += 1;
        // No clock is read as long as there are few.
        if *count == 1 && self.since.is_none() {
            self.since = Some(Instant::now());
        }
        let earned = match frame.kind {
            SETTINGS_FRAME => 0,
            RST_STREAM => self.answers,
            _ => u32::try_from(self.progress / PROGRESS).unwrap_or(u32::MAX),
        };
        if *count <= allowed.saturating_add(earned) {
            return Ok(());
        }
        let now = Instant::now();
        if self.since.is_some_and(|since| now - since < WINDOW) {
            return Err(Violation::Flood);
        }
        self.since = Some(now);
        (self.pings, self.settings, self.resets) = (0, 0, 0);
        (self.others, self.streams, self.progress) = (0, 0, 0);
        self.answers = 0;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.violation().is_some() {
            // Whoever serves the connection ends it now.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        } else {
            let n = buf.remaining().min(this.ahead.len());
            buf.put_slice(this.ahead.get(..n).unwrap_or_default());
            this.ahead.advance(n);
            if this.ahead.is_empty() {
                this.ahead = BytesMut::new();
            }
        }
        let arrived = buf.filled().get(before..).unwrap_or_default();
        if arrived.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let passed = this.arrived(arrived);
        buf.set_filled(before + passed);
        if passed == 0 {
            return Poll::Pending; // an empty read would be the end of the connection
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Writes what was gathered.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.gathered);
            let n = ready!(self.watch.wrote(written))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(n);
        }
        // By what is noted: a buffer that was filled to its end has no capacity left once that is written.
        if self.watch.gathered.load(Relaxed) {
            buffers::put_read(std::mem::take(&mut self.gathered));
            self.watch.gathered.store(false, Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what there is room for; `None`: it is to be written as it is, nothing is before it.
    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<Option<usize>>> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let alone = len >= LARGE || !self.watch.gathers.load(Relaxed);
        if alone || self.gathered.len() + len > GATHER {
            ready!(self.poll_gathered(cx))?;
        }
        if alone {
            return Poll::Ready(Ok(None));
        }
        if !self.watch.gathered.load(Relaxed) {
            self.gathered = buffers::take_read();
            self.watch.gathered.store(true, Relaxed);
        }
        for piece in pieces {
            self.gathered.extend_from_slice(piece);
            self.left(piece);
        }
        Poll::Ready(Ok(Some(len)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(gathered) = ready!(self.poll_gather(cx, data))? {
            return Poll::Ready(Ok(gathered));
        }
        let written = match data {
            [one] => Pin::new(&mut self.socket).poll_write(cx, one),
            several => Pin::new(&mut self.socket).poll_write_vectored(cx, several),
        };
        let written = ready!(self.watch.wrote(written))?;
        let mut rest = written;
        for slice in data {
            let n = rest.min(slice.len());
            self.left(slice.get(..n).unwrap_or_default());
            rest -= n;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.watch.gathers.load(Relaxed) {
            ready!(self.poll_gathered(cx))?;
        }
        // What is gathered waits, but not what the socket has taken before: TLS keeps records that there was no room for,
        // and nobody else comes back for them.
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.watch.behind.store(flushed.is_pending(), Relaxed);
        flushed
    }

    /// Ends our direction, then reads and drops until the client has ended its own: closing over unread bytes would be
    /// a reset that takes the last frames with it. Whoever serves the connection sets a deadline.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.watch.closing.store(true, Relaxed);
        ready!(this.poll_gathered(cx))?;
        if !this.shut {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            this.shut = true;
        }
        let mut room = [0; 2048];
        while this.dropped < LINGER {
            let mut buf = ReadBuf::new(&mut room);
            match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => this.dropped += buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::io::tests::Behind;
    use tokio::io::AsyncWriteExt;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, a, b, c] = (payload as u32).to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags, 0, 0, 0, 0];
        frame.resize(9 + payload, 0);
        frame
    }

    fn begun() -> Watched<()> {
        let mut watched = Watched::new((), BytesMut::new(), Arc::default());
        let mut text = PREFACE.to_vec();
        text.extend(frame(SETTINGS_FRAME, 0, 12));
        // In pieces of every size.
        for piece in text.chunks(5) {
            assert_eq!(watched.arrived(piece), piece.len());
        }
        assert!(watched.watch.has_settings());
        watched
    }

    /// How many frames of this kind pass, and whether what follows is stopped.
    fn flood(watched: &mut Watched<()>, kind: u8, payload: usize) -> usize {
        let one = frame(kind, 0, payload);
        let many = one.repeat(5000);
        let passed = watched.arrived(&many);
        assert_eq!(passed % one.len(), 0, "cut before a frame");
        if passed < many.len() {
            assert_eq!(watched.watch.violation(), Some(Violation::Flood));
        }
        passed / one.len()
    }

    #[tokio::test]
    async fn each_flood_is_stopped_at_its_bound() {
        assert_eq!(flood(&mut begun(), PING, 8), 100);
        assert_eq!(flood(&mut begun(), SETTINGS_FRAME, 0), 49);
        assert_eq!(flood(&mut begun(), RST_STREAM, 4), 100);
        assert_eq!(flood(&mut begun(), 2, 5), 100);
        assert_eq!(flood(&mut begun(), 8, 4), 100);
        assert_eq!(flood(&mut begun(), 0xfa, 0), 100);
        assert_eq!(flood(&mut begun(), DATA, 1), 5000);
    }

    #[tokio::test]
    async fn a_client_that_takes_answers_may_send_windows() {
        let mut watched = begun();
        for _ in 0..5000 {
            watched.left(&frame(DATA, 0, 50));
            assert_eq!(watched.arrived(&frame(8, 0, 4).repeat(2)), 26);
        }
        let mut watched = begun();
        for n in 0..1000 {
            watched.left(&frame(DATA, 0, 1));
            if watched.arrived(&frame(8, 0, 4)) == 0 {
                assert!(n < 110, "one byte each is not progress");
                return;
            }
        }
        panic!("not stopped");
    }

    /// As servers of gRPC have it where a call of two streams ends before its client does.
    #[tokio::test]
    async fn streams_that_have_an_answer_may_be_reset() {
        let mut watched = begun();
        for _ in 0..5000 {
            watched.left(&frame(HEADERS, 4, 10));
            assert_eq!(watched.arrived(&frame(RST_STREAM, 0, 4)), 13);
        }
        // Not more than those.
        assert_eq!(flood(&mut watched, RST_STREAM, 4), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn few_frames_for_a_long_time_are_no_flood() {
        let mut watched = begun();
        for _ in 0..1000 {
            assert_eq!(watched.arrived(&frame(PING, 0, 8)), 17);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[test]
    fn the_first_frame_must_be_settings() {
        for wrong in [frame(PING, 0, 8), frame(SETTINGS_FRAME, ACK, 0)] {
            let mut watched = Watched::new((), BytesMut::new(), Arc::default());
            let text = [&PREFACE[..], &wrong].concat();
            assert_eq!(watched.arrived(&text), PREFACE.len());
            assert_eq!(watched.watch.violation(), Some(Violation::Preface));
        }
    }

    #[test]
    fn a_header_block_is_open_until_its_end() {
        let mut watched = begun();
        watched.arrived(&frame(HEADERS, 0, 3));
        assert!(watched.watch.in_block());
        watched.arrived(&frame(CONTINUATION, END_HEADERS, 3)[..10]);
        assert!(watched.watch.in_block());
        watched.arrived(&[0; 2]);
        assert!(!watched.watch.in_block());
        watched.arrived(&frame(DATA, 0, 30)[..20]);
        assert!(!watched.watch.in_block());
    }

    #[test]
    fn resets_of_both_sides_are_counted() {
        let mut watched = begun();
        watched.arrived(&frame(RST_STREAM, 0, 4).repeat(3));
        watched.left(&frame(RST_STREAM, 0, 4).repeat(2));
        assert_eq!(watched.watch.take_resets(), (3, 2));
        assert_eq!(watched.watch.take_resets(), (0, 0));
    }

    #[tokio::test]
    async fn what_one_turn_writes_leaves_at_once() {
        let watch = Arc::new(Watch::default());
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut watched = Watched::new(near, BytesMut::new(), watch.clone());
        let mut read = vec![0; 1 << 20];
        assert!(!watch.release(), "nothing is gathered before");
        watch.gather();
        for text in ["a", "b", "c"] {
            watched.write_all(text.as_bytes()).await.unwrap();
            watched.flush().await.unwrap();
        }
        assert_eq!(poll_read(&mut far, &mut read), None);
        assert!(watch.release());
        watched.flush().await.unwrap();
        assert_eq!(poll_read(&mut far, &mut read), Some(3));
        assert!(read.starts_with(b"abc"));
        assert!(!watch.release(), "nothing is left");
        // What is large does not wait, and takes along what was before it.
        watch.gather();
        watched.write_all(b"d").await.unwrap();
        watched.write_all(&[b'e'; LARGE]).await.unwrap();
        assert_eq!(poll_read(&mut far, &mut read), Some(1 + LARGE));
        // Nor does more than is gathered at most, or the end.
        for _ in 0..GATHER {
            watched.write_all(b"fg").await.unwrap();
        }
        assert_eq!(poll_read(&mut far, &mut read), Some(GATHER));
        far.shutdown().await.unwrap();
        watched.shutdown().await.unwrap();
        assert_eq!(poll_read(&mut far, &mut read), Some(GATHER));
        assert_eq!(poll_read(&mut far, &mut read), Some(0));
    }

    /// Nothing else calls for them once the last frame is handed over.
    #[tokio::test]
    async fn records_that_tls_keeps_are_flushed_in_later_turns() {
        let watch = Arc::new(Watch::default());
        let mut watched = Watched::new(Behind { flushes: 3 }, BytesMut::new(), watch.clone());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        watch.gather();
        watched.write_all(b"small").await.unwrap();
        watched.write_all(&[0; LARGE]).await.unwrap();
        for _ in 0..3 {
            assert!(Pin::new(&mut watched).poll_flush(&mut cx).is_pending());
            assert!(!watch.release());
            watch.gather();
        }
        assert!(Pin::new(&mut watched).poll_flush(&mut cx).is_ready());
    }

    /// What can be read at once.
    fn poll_read(from: &mut tokio::io::DuplexStream, to: &mut [u8]) -> Option<usize> {
        let mut buf = ReadBuf::new(to);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(from).poll_read(&mut cx, &mut buf) {
            Poll::Ready(read) => read.map(|()| buf.filled().len()).ok(),
            Poll::Pending => None,
        }
    }
}
