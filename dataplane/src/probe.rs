//! One request from the command line: what `helm test` asks a gateway with, since images have no other program.

use anyhow::{Context, Result, bail, ensure};
use http::Uri;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// For each address to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of an answer no more than this is read.
const LONGEST: u64 = 4096;

/// Sends a GET to `http://HOST[:PORT]/PATH`; the answer's status, where it is one of success.
///
/// # Errors
/// The URL is another one, nobody answers at any address of the host, or with another status.
pub fn ask(url: &str) -> Result<u16> {
    let uri: Uri = url.parse().context("not a URL")?;
    ensure!(
        uri.scheme_str() == Some("http"),
        "only http:// can be asked"
    );
    let authority = uri.authority().context("no host")?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let addresses = (host, authority.port_u16().unwrap_or(80)).to_socket_addrs();
    let mut unreachable = None;
    for address in addresses.with_context(|| format!("no address of {host}"))? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                let path = uri.path_and_query().map_or("/", |path| path.as_str());
                return status(stream, authority.as_str(), path);
            }
            Err(error) => unreachable = Some((address, error)),
        }
    }
    match unreachable {
        Some((address, error)) => Err(error).with_context(|| format!("cannot reach {address}")),
        None => bail!("no address of {host}"),
    }
}

fn status(mut stream: TcpStream, host: &str, path: &str) -> Result<u16> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )
    .context("cannot ask")?;
    let mut answer = Vec::new();
    stream
        .take(LONGEST)
        .read_to_end(&mut answer)
        .context("no answer")?;
    let mut line = answer.split(|byte| *byte == b' ');
    ensure!(
        line.next().is_some_and(|v| v.starts_with(b"HTTP/1.")),
        "no answer of HTTP"
    );
    let code = line.next().and_then(|code| str::from_utf8(code).ok());
    let code: u16 = code
        .context("no status")?
        .trim_end()
        .parse()
        .context("no status")?;
    ensure!((200..300).contains(&code), "status {code}");
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What is said of a server that answers the first request so, and that request.
    fn asked(path: &str, answer: &'static str) -> (Result<u16>, String) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}{path}", server.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            client.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let said = ask(&url);
        (said, serving.join().unwrap())
    }

    #[test]
    fn a_success_is_told_from_everything_else() {
        let (said, request) = asked("/healthz?a", "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(said.unwrap(), 204);
        assert!(
            request.starts_with("GET /healthz?a HTTP/1.1\r\nhost: 127.0.0.1:"),
            "{request}"
        );
        for (answer, error) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "no answer of HTTP"),
            ("HTTP/1.1", "no status"),
            ("", "no answer of HTTP"),
        ] {
            let said = asked("/", answer).0.unwrap_err();
            assert_eq!(said.to_string(), error, "{answer:?}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        for (url, error) in [
            ("https://127.0.0.1/".to_owned(), "only http:// can be asked"),
            ("/healthz".to_owned(), "only http:// can be asked"),
            (format!("http://{closed}/"), "cannot reach 127.0.0.1"),
        ] {
            let said = ask(&url).unwrap_err().to_string();
            assert!(said.starts_with(error), "{url}: {said}");
        }
    }
}
