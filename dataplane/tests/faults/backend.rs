//! A backend that misbehaves when it is told to, and says in each answer whom it is for. It serves HTTP/1.1, in clear or over
//! TLS; HTTP/2 is [`super::backend_h2`].

use super::backend_h2;
use super::message::{Message, hash};
use socket2::{Domain, SockRef, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// As it should.
    Well,
    /// Is gone: all its connections are reset, new ones are refused.
    Dead,
    /// Takes connections into its queue and nothing else, like a stopped process. It goes on when it is told to.
    Paused,
    /// Reads requests and does not answer.
    Silent,
    /// Resets the connection when the request is there.
    ResetBefore,
    ResetInHead,
    ResetInBody,
    /// Closes the connection within the body.
    EndInBody,
    /// Answers one byte at a time.
    Slow,
    /// Answers what is not HTTP.
    Garbage,
}

/// What a backend speaks.
#[derive(Clone)]
pub enum Speaks {
    Http1,
    Http1OverTls(TlsAcceptor),
    /// From the first byte.
    Http2,
}

pub struct Backend {
    pub address: SocketAddr,
    does: watch::Sender<Does>,
    /// Keeps the port while nobody listens on it.
    _port: Socket,
}

impl Backend {
    pub fn start(runtime: &Handle, name: &'static str) -> Self {
        Self::at(runtime, name, ([127, 0, 0, 1], 0).into())
    }

    pub fn at(runtime: &Handle, name: &'static str, address: SocketAddr) -> Self {
        Self::speaking(runtime, name, address, Speaks::Http1)
    }

    pub fn speaking(
        runtime: &Handle,
        name: &'static str,
        address: SocketAddr,
        speaks: Speaks,
    ) -> Self {
        let port = socket(address).unwrap();
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let (does, told) = watch::channel(Does::Well);
        let listener = {
            let _inside = runtime.enter();
            listen(address).unwrap()
        };
        runtime.spawn(accept(name, address, listener, told, speaks));
        Self {
            address,
            does,
            _port: port,
        }
    }

    /// When this returns connections are accepted, or refused.
    pub fn does(&self, what: Does) {
        self.does.send_replace(what);
        let refuses = what == Does::Dead;
        super::support::becomes("refused", refuses, || {
            std::net::TcpStream::connect(self.address).is_err()
        });
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

async fn accept(
    name: &'static str,
    address: SocketAddr,
    listener: TcpListener,
    mut told: watch::Receiver<Does>,
    speaks: Speaks,
) {
    let mut listener = Some(listener);
    loop {
        let does = *told.borrow_and_update();
        match does {
            Does::Dead => listener = None,
            _ if listener.is_none() => listener = Some(listen(address).unwrap()),
            _ => {}
        }
        let accepted = async {
            match &listener {
                Some(listener) if does != Does::Paused => listener.accept().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            stream = accepted => {
                let (stream, _) = stream.unwrap();
                let (told, speaks) = (told.clone(), speaks.clone());
                tokio::spawn(connection(name, stream, told, speaks));
            }
        }
    }
}

/// One connection, until it ends or the backend is dead.
async fn connection(
    name: &'static str,
    stream: TcpStream,
    told: watch::Receiver<Does>,
    speaks: Speaks,
) {
    let mut dies = told.clone();
    let _ = stream.set_nodelay(true);
    let line = Line(SockRef::from(&stream).try_clone().unwrap());
    let served = async {
        match speaks {
            Speaks::Http1 => Connection::new(name, stream, told, &line).serve().await,
            Speaks::Http1OverTls(acceptor) => {
                let stream = acceptor.accept(stream).await?;
                Connection::new(name, stream, told, &line).serve().await
            }
            Speaks::Http2 => backend_h2::serve(name, stream, told, &line).await,
        }
    };
    tokio::select! {
        _ = served => {}
        _ = dies.wait_for(|does| *does == Does::Dead) => line.reset(),
    }
}

/// What a connection goes over.
pub struct Line(Socket);

impl Line {
    /// Its end will be a reset.
    pub fn reset(&self) {
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}

struct Connection<'l, S> {
    name: &'static str,
    stream: S,
    told: watch::Receiver<Does>,
    line: &'l Line,
}

impl<'l, S: AsyncRead + AsyncWrite + Unpin> Connection<'l, S> {
    fn new(name: &'static str, stream: S, told: watch::Receiver<Does>, line: &'l Line) -> Self {
        Self {
            name,
            stream,
            told,
            line,
        }
    }

    /// What it is to do, once it is not stopped. The end of the test ends it too.
    async fn does(&mut self) -> io::Result<Does> {
        let told = self.told.wait_for(|does| *does != Does::Paused).await;
        Ok(*told.map_err(|_| io::ErrorKind::BrokenPipe)?)
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.does().await? {
            Does::Slow => {
                for byte in bytes {
                    self.stream.write_all(&[*byte]).await?;
                    self.stream.flush().await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            _ => {
                self.stream.write_all(bytes).await?;
                self.stream.flush().await
            }
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        let mut left = Vec::new();
        loop {
            self.does().await?;
            let request = Message::read(&mut self.stream, &mut left).await?;
            match self.does().await? {
                Does::Silent => {
                    // For as long as it is told to, or nobody waits any more.
                    let mut end = [0];
                    tokio::select! {
                        _ = self.told.wait_for(|does| *does != Does::Silent) => {}
                        _ = self.stream.read(&mut end) => return Ok(()),
                    }
                }
                Does::ResetBefore => {
                    self.line.reset();
                    return Ok(());
                }
                Does::ResetInHead => {
                    self.say(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
                    self.line.reset();
                    return Ok(());
                }
                Does::Garbage => {
                    self.say(b"220 mail.test ESMTP\r\n").await?;
                    return Ok(());
                }
                _ => {}
            }
            self.answer(&request).await?;
        }
    }

    async fn answer(&mut self, request: &Message) -> io::Result<()> {
        let of = |name| request.field(name).unwrap_or("-");
        let (id, generation) = (of("x-id"), of("x-generation"));
        let body = format!("{id} {generation} {} {}", self.name, hash(&request.body));
        let (head, pieces) = match request.first.contains("/events") {
            true => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                            transfer-encoding: chunked\r\n\r\n";
                let event = |n: usize| {
                    let data = format!("data: {n} {body}\n\n");
                    format!("{:x}\r\n{data}\r\n", data.len())
                };
                let events: Vec<String> = (0..5).map(event).chain(["0\r\n\r\n".into()]).collect();
                (head.to_owned(), events)
            }
            false => {
                let length = body.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                (head, vec![body])
            }
        };
        self.say(head.as_bytes()).await?;
        for piece in pieces {
            match self.does().await? {
                Does::ResetInBody | Does::EndInBody => {
                    let half = &piece.as_bytes()[..piece.len() / 2];
                    self.say(half).await?;
                    // What was sent shall arrive: a reset overtakes what has not been read.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    if *self.told.borrow() == Does::ResetInBody {
                        self.line.reset();
                    }
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                _ => self.say(piece.as_bytes()).await?,
            }
        }
        Ok(())
    }
}
