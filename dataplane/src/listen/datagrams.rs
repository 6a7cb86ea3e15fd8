//! A thread's part of a port of datagrams, and how its sockets are bound.

use super::socket;
use super::worker::Listening;
use crate::engine::Service;
use crate::engine::drain::Ticket;
use socket2::Type;
use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::rc::Rc;
use std::sync::Weak;
use tokio::net::UdpSocket;

/// Passes one socket's datagrams on until it is closed.
pub(super) async fn run<S: Service>(
    service: Rc<S>,
    port: u16,
    socket: Weak<StdUdpSocket>,
    listening: &Listening,
) {
    // A copy: what has arrived outlives a worker that falls.
    let copied = socket.upgrade().map(|socket| socket.try_clone());
    let Some(copied) = copied else { return };
    match copied.and_then(UdpSocket::from_std) {
        Ok(socket) => {
            let ticket = Ticket::new(Rc::clone(&listening.drain));
            service.datagrams(port, &socket, ticket).await;
        }
        Err(error) => tracing::error!(port, %error, "datagrams cannot be received"),
    }
}

/// Binds so many sockets to the same address; the kernel gives all datagrams of one client to one of them. `shares`:
/// with another process.
pub(super) fn bind(
    address: SocketAddr,
    threads: usize,
    shares: bool,
) -> io::Result<(SocketAddr, Vec<StdUdpSocket>)> {
    if address.port() != 0 && !shares {
        // With SO_REUSEPORT alone, a second process of the same user would silently share the port.
        socket(address, Type::DGRAM)?.bind(&address.into())?;
    }
    let (mut sockets, mut address) = (Vec::new(), address);
    while sockets.len() < threads {
        let socket = socket(address, Type::DGRAM)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        let socket = StdUdpSocket::from(socket);
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok((address, sockets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused() {
        let (address, kept) = bind("127.0.0.1:0".parse().unwrap(), 2, false).unwrap();
        assert!(kept.iter().all(|s| s.local_addr().unwrap() == address));
        let error = bind(address, 1, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind(address, 1, true).unwrap().0, address);
    }
}
