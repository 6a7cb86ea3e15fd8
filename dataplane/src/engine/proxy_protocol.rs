//! The PROXY protocol, versions 1 and 2: what a load balancer says about the connection that it passes on.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
//!
//! Not a byte behind the header is read, so that what follows may be anything, TLS included.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, its end included.
const MAX_LINE: usize = 107;
/// Longest version 2 header that is taken, behind its first 16 bytes: addresses, and room for what else is told.
const MAX_BLOCK: usize = 1024;

/// Whose connection it is; `None`: the load balancer's own (`LOCAL`, `UNKNOWN`).
pub type Source = Option<SocketAddr>;

/// Reads the header at the front of a connection.
///
/// # Errors
/// `InvalidData` when there is none, or when it is not what the specification says.
pub async fn read(stream: &mut TcpStream) -> io::Result<Source> {
    let mut head = [0; 16];
    let mut signature = [0; SIGNATURE.len()];
    // Both versions are longer than this.
    stream.read_exact(&mut signature).await?;
    if signature != SIGNATURE {
        return read_line(stream, &signature).await;
    }
    let (front, rest) = head.split_at_mut(signature.len());
    front.copy_from_slice(&signature);
    stream.read_exact(rest).await?;
    let len = block_len(&head)?;
    let mut block = [0; MAX_BLOCK];
    let block = block.get_mut(..len).ok_or_else(bad)?;
    stream.read_exact(block).await?;
    parse_block(&head, block)
}

async fn read_line(stream: &mut TcpStream, front: &[u8]) -> io::Result<Source> {
    if !front.starts_with(b"PROXY ") {
        return Err(bad());
    }
    let mut line = [0; MAX_LINE];
    let mut have = front.len();
    line.get_mut(..have).ok_or_else(bad)?.copy_from_slice(front);
    loop {
        let room = line.get_mut(have..).filter(|room| !room.is_empty());
        let room = room.ok_or_else(bad)?;
        let seen = stream.peek(room).await?;
        let end = room.get(..seen).and_then(|r| memchr::memchr(b'\n', r));
        let take = end.map_or(seen, |end| end + 1);
        if take == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream
            .read_exact(room.get_mut(..take).ok_or_else(bad)?)
            .await?;
        have += take;
        if end.is_some() {
            return parse_line(line.get(..have).unwrap_or_default());
        }
    }
}

fn bad() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Reads a line of version 1.
fn parse_line(line: &[u8]) -> io::Result<Source> {
    let line = line.strip_suffix(b"\r\n").ok_or_else(bad)?;
    let line = std::str::from_utf8(line).map_err(|_| bad())?;
    let line = line.strip_prefix("PROXY ").ok_or_else(bad)?;
    // What stands behind UNKNOWN is to be ignored.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    let mut parts = line.split(' ');
    let mut next = || parts.next().ok_or_else(bad);
    let family = next()?;
    let (source, destination) = (next()?, next()?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    if parts.next().is_some() {
        return Err(bad());
    }
    let address = |text: &str| -> io::Result<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| bad()),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| bad()),
            _ => Err(bad()),
        }
    };
    let _ = (address(destination)?, destination_port);
    Ok(Some(SocketAddr::new(address(source)?, source_port)))
}

/// Decimal without superfluous zeros.
fn port(text: &str) -> io::Result<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(bad());
    }
    text.parse().map_err(|_| bad())
}

/// The length of what follows the first 16 bytes of version 2.
fn block_len(head: &[u8; 16]) -> io::Result<usize> {
    let [.., version, _, a, b] = head;
    let len = usize::from(u16::from_be_bytes([*a, *b]));
    match version {
        0x20 | 0x21 if len <= MAX_BLOCK => Ok(len),
        _ => Err(bad()),
    }
}

/// Reads what follows the first 16 bytes of version 2.
fn parse_block(head: &[u8; 16], block: &[u8]) -> io::Result<Source> {
    let [.., version, family, _, _] = head;
    // LOCAL: a health check of the load balancer's own.
    if *version == 0x20 {
        return Ok(None);
    }
    let (source, more) = match family {
        // UNSPEC: nothing is known, nothing is read.
        0x00 => return Ok(None),
        0x11 => {
            let (addresses, more) = block.split_first_chunk::<12>().ok_or_else(bad)?;
            let [a, b, c, d, _, _, _, _, p, q, _, _] = *addresses;
            let port = u16::from_be_bytes([p, q]);
            (
                SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port),
                more,
            )
        }
        0x21 => {
            let (addresses, more) = block.split_first_chunk::<36>().ok_or_else(bad)?;
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or_else(bad)?;
            let (_, ports) = rest.split_first_chunk::<16>().ok_or_else(bad)?;
            let (port, _) = ports.split_first_chunk::<2>().ok_or_else(bad)?;
            let address = Ipv6Addr::from(*source).into();
            (SocketAddr::new(address, u16::from_be_bytes(*port)), more)
        }
        // Datagrams and local sockets are no connections of clients.
        _ => return Err(bad()),
    };
    check_vectors(more)?;
    Ok(Some(source))
}

/// Type, length, value; their values are of no interest, but they fill the block exactly.
fn check_vectors(mut rest: &[u8]) -> io::Result<()> {
    while let Some(([_, a, b], more)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([*a, *b]));
        rest = more.get(len..).ok_or_else(bad)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// What `read` makes of these pieces, and what it leaves.
    async fn read_pieces(pieces: &[&[u8]]) -> io::Result<(Source, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut served, _) = listener.accept().await.unwrap();
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (source, ()) = tokio::join!(read(&mut served), send);
        let source = source?;
        let mut rest = Vec::new();
        served.read_to_end(&mut rest).await.unwrap();
        Ok((source, rest))
    }

    fn address(text: &str) -> Source {
        Some(text.parse().unwrap())
    }

    fn v2(version: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut text = SIGNATURE.to_vec();
        text.extend([version, family]);
        text.extend((block.len() as u16).to_be_bytes());
        text.extend(block);
        text
    }

    const IPV4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 1, 187];

    #[tokio::test]
    async fn headers_in_any_pieces_and_nothing_behind_them() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\nGET / HTTP/1.1\r\n";
        for at in [1, 11, 12, 13, 30, 40, 41, 50] {
            let (front, back) = line.split_at(at);
            let (source, rest) = read_pieces(&[front, back]).await.unwrap();
            assert_eq!(source, address("192.0.2.7:12345"));
            assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        }
        let mut block = v2(0x21, 0x11, &IPV4);
        block.extend(b"rest");
        for at in [1, 12, 15, 16, 17, 28, 29] {
            let (front, back) = block.split_at(at);
            let (source, rest) = read_pieces(&[front, back]).await.unwrap();
            assert_eq!(source, address("192.0.2.7:12345"));
            assert_eq!(rest, b"rest");
        }
    }

    #[tokio::test]
    async fn what_is_not_a_header_is_refused() {
        let long = format!("PROXY TCP4 {} 1.1.1.1 1 1\r\n", "1".repeat(100));
        for bad in [
            &b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n",
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 443 \r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 01 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
            b"PROXY TCP4 ::1 ::1 1 443\r\n",
            b"PROXY TCP6 192.0.2.7 ::1 1 443\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 443\r\n",
            b"proxy TCP4 192.0.2.7 10.0.0.1 1 443\r\n",
            b"PROXY UNKNOWNX\r\n",
            long.as_bytes(),
            &v2(0x11, 0x11, &IPV4),
            &v2(0x22, 0x11, &IPV4),
            &v2(0x21, 0x12, &IPV4),
            &v2(0x21, 0x31, &[0; 216]),
            &v2(0x21, 0x11, &IPV4[..11]),
            &v2(0x21, 0x21, &IPV4),
            &v2(0x21, 0x11, &[&IPV4[..], &[4, 0]].concat()),
            &v2(0x21, 0x11, &[&IPV4[..], &[4, 0, 2, 1]].concat()),
            &v2(0x21, 0x11, &[0; 1025]),
        ] {
            let error = read_pieces(&[bad]).await.unwrap_err();
            let text = String::from_utf8_lossy(bad);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text}");
        }
        let error = read_pieces(&[b"PROXY TCP4 192.0.2.7 10."])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn both_families_and_nobody() {
        let line = |text: &str| parse_line(format!("PROXY {text}\r\n").as_bytes()).unwrap();
        assert_eq!(
            line("TCP6 2001:db8::1 ::1 5 443"),
            address("[2001:db8::1]:5")
        );
        assert_eq!(line("UNKNOWN"), None);
        assert_eq!(line("UNKNOWN whatever is here"), None);
        let block = |version, family, block: &[u8]| {
            let text = v2(version, family, block);
            let (head, block) = text.split_first_chunk::<16>().unwrap();
            assert_eq!(block_len(head).unwrap(), block.len());
            parse_block(head, block).unwrap()
        };
        assert_eq!(block(0x20, 0x00, &[]), None);
        assert_eq!(block(0x20, 0x11, &IPV4), None);
        assert_eq!(block(0x21, 0x00, &[1, 2, 3]), None);
        let mut ipv6 = [0; 36];
        ipv6[15] = 1;
        ipv6[33] = 9;
        assert_eq!(block(0x21, 0x21, &ipv6), address("[::1]:9"));
        let with_vectors = [&IPV4[..], &[4, 0, 2, 0, 0, 5, 0, 0]].concat();
        assert_eq!(block(0x21, 0x11, &with_vectors), address("192.0.2.7:12345"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            head in any::<[u8; 16]>(), block in prop::collection::vec(any::<u8>(), 0..300), line in ".{0,110}",
        ) {
            let _ = (block_len(&head), parse_line(line.as_bytes()));
            let _ = parse_block(&head, &block);
            let mut known = head;
            (known[12], known[13]) = (0x21, 0x21);
            let _ = parse_block(&known, &block);
        }

        #[test]
        fn every_address_comes_through(ip in any::<std::net::IpAddr>(), port in any::<u16>()) {
            let source = SocketAddr::new(ip, port);
            let (family, local) = match ip {
                IpAddr::V4(_) => ("TCP4", "0.0.0.0"),
                IpAddr::V6(_) => ("TCP6", "::"),
            };
            let line = format!("PROXY {family} {ip} {local} {port} 1\r\n");
            prop_assert_eq!(parse_line(line.as_bytes()).unwrap(), Some(source));
        }
    }
}
