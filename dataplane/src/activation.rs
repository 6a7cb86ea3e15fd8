//! Listening sockets that the service manager has opened (`LISTEN_FDS` of systemd, sd_listen_fds(3)): ports below 1024
//! without rights of one's own, and no connection refused while the process is started anew.
//!
//! A listener takes the sockets of its own address. When it goes away they are closed here; the service manager keeps them,
//! so its address is taken until the process is started anew.

use std::env;
use std::io;
use std::net::TcpListener;

/// Sockets that are taken.
const MOST: usize = 256;

/// The sockets that were passed to this process. To be called once, before there is a second thread: it takes them out
/// of the environment.
///
/// # Errors
/// What was passed is no TCP socket, or more than 256.
pub fn passed() -> io::Result<Vec<TcpListener>> {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    // Otherwise they are meant for whoever started this process.
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    if usize::try_from(count).map_or(true, |count| count > MOST) {
        let error = format!("LISTEN_FDS says {count} sockets, and {MOST} can be taken");
        return Err(io::Error::other(error));
    }
    let mut given = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for i in 0..given.len() {
        if let Some(socket) = given.take_tcp_listener(i)? {
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}
