//! A new program takes the place of a running one on the same machine, without a connection refused or reset
//! (features.md F170).
//!
//! The running process waits at a Unix socket. The new one, started with the same path, asks it for copies of its listening
//! sockets: the same sockets with the same queues, so no connection that the kernel has accepted for them is lost. As
//! soon as the new process accepts from all of them it says so; then the old one stops in good order. If the new one ends
//! before, nothing has changed.
//!
//! Only the user who runs the process, and root, can do that: the socket has mode 0600, and both sides ask the kernel who the
//! other one is.

use crate::listen::Inherited;
use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
};
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What both sides begin with; another version says something else.
const HELLO: &[u8; 10] = b"diolkos 1\n";
/// Says that the new process accepts.
const READY: &[u8; 1] = b"R";
/// Says that the old one stops.
const STOPS: &[u8; 1] = b"S";
/// Asks for the next message.
const NEXT: &[u8; 1] = b"N";
/// Bytes of one message.
const MESSAGE: usize = 256;
/// Sockets of one message; the kernel takes 253.
const SOCKETS: usize = 64;
/// For each step, except that the new process becomes ready.
const STEP: Duration = Duration::from_secs(5);
/// For the new process to become ready; the old one waits a little longer.
pub const BECOME_READY: Duration = Duration::from_secs(50);

/// One message: sockets of one address, or the end.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    /// `None`: that was all.
    address: Option<SocketAddr>,
}

/// What the process before this one gave.
#[derive(Debug)]
pub struct Taken {
    pub sockets: Inherited,
    stream: UnixStream,
}

impl Taken {
    /// Tells the old process to stop: this one accepts from all sockets. Blocks for a moment.
    ///
    /// # Errors
    /// It did not hear it.
    pub fn ready(mut self) -> io::Result<()> {
        self.stream.write_all(READY)?;
        let mut answer = [0];
        self.stream.read_exact(&mut answer)?;
        match answer == *STOPS {
            true => Ok(()),
            false => Err(invalid("the other process does not stop")),
        }
    }
}

/// Asks the process that waits at `path` for its sockets. `None`: there is none.
///
/// # Errors
/// There is one that is not ours, or that says something else than expected.
pub fn take(path: &Path) -> io::Result<Option<Taken>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    allow(&stream)?;
    limit(&stream, STEP)?;
    stream.write_all(HELLO)?;
    let mut sockets = Inherited::new();
    loop {
        stream.write_all(NEXT)?;
        let (message, given) = receive(&stream)?;
        let Some(address) = message.address else {
            return Ok(Some(Taken { sockets, stream }));
        };
        let group = sockets.entry(address).or_default();
        for socket in given {
            let socket = TcpListener::from(socket);
            if socket.local_addr()? != address {
                return Err(invalid("a socket has another address than was said"));
            }
            group.push(socket);
        }
    }
}

/// A place where the next process can ask. It is gone with the process.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    path: PathBuf,
}

impl Offer {
    /// Waits at `path`, in the place of whoever waited there before.
    ///
    /// # Errors
    /// The socket cannot be made, or something else is there.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt;
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "it is there and no socket",
                ));
            }
            _ => {}
        }
        // Nobody may come in before its mode is right.
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(new);
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&new, path))
            .inspect_err(|_| drop(fs::remove_file(&new)))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Returns when another process has taken over. Blocks its thread.
    pub fn wait(&self, sockets: impl Fn() -> io::Result<Inherited>) {
        loop {
            let taken = self
                .listener
                .accept()
                .and_then(|(stream, _)| give(stream, &sockets));
            match taken {
                Ok(true) => return,
                Ok(false) => tracing::warn!(
                    event = "handover_not_finished",
                    path = %self.path.display(),
                    "a process asked for the sockets and did not become ready; this one goes on"
                ),
                Err(error) => {
                    tracing::warn!(
                        event = "handover_failed",
                        path = %self.path.display(),
                        %error,
                        "the sockets could not be handed over; this process goes on"
                    );
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

/// Gives the sockets to one process; whether it is ready now.
fn give(mut stream: UnixStream, sockets: impl Fn() -> io::Result<Inherited>) -> io::Result<bool> {
    allow(&stream)?;
    limit(&stream, STEP)?;
    let mut hello = [0; HELLO.len()];
    stream.read_exact(&mut hello)?;
    if hello != *HELLO {
        return Err(invalid("the other process speaks another version"));
    }
    for (address, group) in sockets()? {
        for part in group.chunks(SOCKETS) {
            let part: Vec<BorrowedFd<'_>> = part.iter().map(AsFd::as_fd).collect();
            send(&mut stream, Some(address), &part)?;
        }
    }
    send(&mut stream, None, &[])?;
    limit(&stream, BECOME_READY + STEP)?;
    let mut ready = [0];
    if stream.read_exact(&mut ready).is_err() || ready != *READY {
        return Ok(false);
    }
    // Whether it hears that or not, it accepts.
    let _ = stream.write_all(STOPS);
    Ok(true)
}

/// Sends one message when it is asked for, so that two never run into each other.
fn send(
    stream: &mut UnixStream,
    address: Option<SocketAddr>,
    sockets: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut next = [0];
    stream.read_exact(&mut next)?;
    if next != *NEXT {
        return Err(invalid("the other process asks for something else"));
    }
    let message = serde_json::to_vec(&Message { address })?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(invalid("too many sockets for one message"));
    }
    let sent = retry_on_intr(|| {
        sendmsg(
            &*stream,
            &[IoSlice::new(&message)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    if sent < message.len() {
        return Err(invalid("a message was cut"));
    }
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<(Message, Vec<OwnedFd>)> {
    let mut bytes = [0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = retry_on_intr(|| {
        recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(given) = message {
            sockets.extend(given);
        }
    }
    let message = bytes.get(..read.bytes).unwrap_or_default();
    if message.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_slice(message)?, sockets))
}

/// Nobody but the same user and root.
fn allow(stream: &UnixStream) -> io::Result<()> {
    let other = socket_peercred(stream)?;
    if other.uid == rustix::process::geteuid() || other.uid.is_root() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the other process belongs to another user",
    ))
}

fn limit(stream: &UnixStream, step: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(step))?;
    stream.set_write_timeout(Some(step))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(n: usize) -> Inherited {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let copies = (1..n).map(|_| first.try_clone().unwrap());
        let copies: Vec<_> = copies.collect();
        HashMap::from([(address, std::iter::once(first).chain(copies).collect())])
    }

    use std::collections::HashMap;

    #[test]
    fn sockets_go_over_with_what_they_have_queued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("handover.sock");
        assert!(take(&path).unwrap().is_none(), "nobody is there");
        let own = sockets(130);
        let address = *own.keys().next().unwrap();
        let offer = Offer::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let queued = std::net::TcpStream::connect(address).unwrap();
        let copies = move || {
            let copies = own.iter().map(|(a, s)| {
                Ok((
                    *a,
                    s.iter().map(|s| s.try_clone()).collect::<io::Result<_>>()?,
                ))
            });
            copies.collect()
        };
        let old = std::thread::spawn(move || offer.wait(copies));
        let given_up = take(&path).unwrap().unwrap();
        drop(given_up);
        let taken = take(&path).unwrap().unwrap();
        assert_eq!(
            taken.sockets[&address].len(),
            130,
            "in more than one message"
        );
        let (_, client) = taken.sockets[&address][0].accept().unwrap();
        assert_eq!(client, queued.local_addr().unwrap());
        taken.ready().unwrap();
        old.join().unwrap();
        assert!(take(&path).unwrap().is_none(), "the old one has gone");
        drop(Offer::open(&path).unwrap());
    }

    #[test]
    fn what_is_no_socket_is_not_replaced_and_who_speaks_otherwise_gets_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert!(Offer::open(&path).is_err());
        let path = directory.path().join("sock");
        let offer = Offer::open(&path).unwrap();
        let (asked, ask) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            offer.wait(move || {
                asked.send(()).unwrap();
                Ok(Inherited::new())
            });
        });
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"diolkos 9\nN").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
        assert!(ask.try_recv().is_err());
        take(&path).unwrap().unwrap().ready().unwrap();
        ask.recv().unwrap();
    }
}
