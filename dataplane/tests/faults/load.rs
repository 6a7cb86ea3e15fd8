//! Clients that send one request after another and account for each.

use super::message::{Message, Part, hash};
use super::tally::{Came, Tally};
use bytes::Bytes;
use h2::client::SendRequest;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than all timeouts of the gateway that one request can meet.
pub const LIMIT: Duration = Duration::from_secs(15);
/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Get,
    Post,
    /// The answer is a stream of events.
    Events,
}

/// One after the other over HTTP/1.1, and at the same time over HTTP/2.
pub const ALL: [Kind; 3] = [Kind::Get, Kind::Post, Kind::Events];

#[derive(Clone)]
pub enum Amount {
    /// Of requests of each client.
    Of(usize),
    Until(CancellationToken),
}

impl Amount {
    fn takes(&self, made: usize) -> bool {
        match self {
            Self::Of(n) => made < *n,
            Self::Until(stop) => !stop.is_cancelled(),
        }
    }
}

pub struct Load {
    runtime: Runtime,
    address: SocketAddr,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn on(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self {
            runtime: runtime.unwrap(),
            address,
            clients: Vec::new(),
        }
    }

    /// Six clients: one of each kind on a connection of its own, and one of each on one connection over HTTP/2.
    pub fn send(&mut self, path: &'static str, amount: &Amount, tally: &Tally) {
        let address = self.address;
        let client = |kind| Client {
            address,
            path,
            kind,
            tally: tally.clone(),
            amount: amount.clone(),
        };
        for kind in ALL {
            self.clients
                .push(self.runtime.spawn(client(kind).over_h1()));
        }
        let shared = ALL.map(client);
        self.clients
            .push(self.runtime.spawn(over_h2(address, shared)));
    }

    /// Waits until all clients have sent what they had to and have closed their connections.
    pub fn finish(&mut self) {
        for client in self.clients.drain(..) {
            self.runtime.block_on(client).unwrap();
        }
    }
}

/// As different from the next as two ids can be.
fn next_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, SeqCst);
    format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

struct Client {
    address: SocketAddr,
    path: &'static str,
    kind: Kind,
    tally: Tally,
    amount: Amount,
}

/// A request, and what the answer must say.
struct Asked {
    id: String,
    path: String,
    body: Vec<u8>,
}

impl Asked {
    fn new(client: &Client) -> Self {
        let id = next_id();
        let (tail, body) = match client.kind {
            Kind::Get => ("get", Vec::new()),
            Kind::Post => ("post", id.repeat(2000).into_bytes()),
            Kind::Events => ("events", Vec::new()),
        };
        Self {
            path: format!("{}/{tail}", client.path),
            id,
            body,
        }
    }

    fn method(&self) -> &'static str {
        match self.body.is_empty() {
            true => "GET",
            false => "POST",
        }
    }

    /// What a whole answer is.
    fn judge(&self, status: u16, generation: Option<&str>, body: &[u8], tally: &Tally) {
        let text = String::from_utf8_lossy(body);
        if status != 200 {
            let code = text.strip_prefix("{\"error\":\"");
            let code = code.and_then(|c| c.split('"').next()).map(str::to_owned);
            return tally.came(match code {
                Some(code) => Came::Error(status, code),
                None => Came::Wrong(format!("{status} {text}")),
            });
        }
        let said = match text.strip_prefix("data: 0 ") {
            Some(_) => {
                let events: Vec<&str> = text.split_terminator("\n\n").collect();
                let last = events.last().and_then(|e| e.strip_prefix("data: 4 "));
                last.filter(|_| events.len() == 5).unwrap_or_default()
            }
            None => &text,
        };
        let said: Vec<&str> = said.split(' ').collect();
        let sum = hash(&self.body).to_string();
        match said[..] {
            [id, seen, backend, of]
                if id == self.id && of == sum && generation.is_none_or(|g| g == seen) =>
            {
                tally.from(backend);
            }
            _ => tally.came(Came::Wrong(format!("{} {generation:?}: {text}", self.id))),
        }
    }
}

impl Client {
    async fn over_h1(self) {
        let mut kept = None;
        let mut made = 0;
        while self.amount.takes(made) {
            made += 1;
            let asked = Asked::new(&self);
            self.tally.sends();
            let result = tokio::time::timeout(LIMIT, self.ask_h1(&asked, kept.take())).await;
            match result {
                Ok(next) => kept = next,
                Err(_) => self.tally.came(Came::Hung),
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// The connection, where it may be used again.
    async fn ask_h1(&self, asked: &Asked, kept: Option<TcpStream>) -> Option<TcpStream> {
        let mut stream = match kept {
            Some(stream) => stream,
            None => match TcpStream::connect(self.address).await {
                Ok(stream) => stream,
                Err(e) => {
                    self.tally.came(Came::Wrong(format!("connect: {e}")));
                    return None;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: t\r\nx-id: {}\r\ncontent-length: {}\r\n\r\n",
            asked.method(),
            asked.path,
            asked.id,
            asked.body.len()
        )
        .into_bytes();
        text.extend(&asked.body);
        let (mut message, mut left, mut far) = (Message::default(), Vec::new(), Part::Nothing);
        let result: io::Result<bool> = {
            let (mut input, mut output) = stream.split();
            let mut read = std::pin::pin!(message.fill(&mut input, &mut left, &mut far));
            // The answer may come before the request has left, and instead of the rest of it.
            tokio::select! {
                result = &mut read => result.map(|()| false),
                sent = output.write_all(&text) => read.await.map(|()| sent.is_ok()),
            }
        };
        match (result, far) {
            (Ok(sent), _) => {
                let generation = message.field("x-generation");
                asked.judge(message.status(), generation, &message.body, &self.tally);
                let closes = message.field("connection") == Some("close");
                return (sent && !closes).then_some(stream);
            }
            (Err(_), Part::Nothing) => self.tally.came(Came::Lost),
            (Err(_), Part::Body) if message.status() == 200 => self.tally.came(Came::Cut),
            (Err(e), _) => self.tally.came(Came::Wrong(format!("{message:?}: {e}"))),
        }
        None
    }

    /// Says whether the connection goes on.
    async fn ask_h2(&self, asked: &Asked, send: SendRequest<Bytes>) -> bool {
        // Not to be accounted for: nothing has been sent.
        let Ok(mut send) = send.ready().await else {
            return false;
        };
        self.tally.sends();
        let request = http::Request::builder()
            .method(asked.method())
            .uri(format!("http://t{}", asked.path))
            .header("x-id", &asked.id)
            .header("content-length", asked.body.len())
            .body(())
            .unwrap();
        let is_get = asked.body.is_empty();
        let (answer, mut body) = match send.send_request(request, is_get) {
            Ok(both) => both,
            Err(e) => {
                self.tally.came(Came::Wrong(format!("send: {e}")));
                return false;
            }
        };
        if !is_get {
            // Where the answer comes first, the rest is of no interest.
            let _ = body.send_data(asked.body.clone().into(), true);
        }
        let (head, mut body) = match answer.await {
            Ok(answer) => answer.into_parts(),
            Err(e) => {
                let unprocessed = e.is_go_away() && e.reason() == Some(h2::Reason::NO_ERROR);
                self.tally.came(match unprocessed {
                    true => Came::Unprocessed,
                    // An answer that is cut at once may lose its head to the reset that says so.
                    false if e.is_reset() => Came::Cut,
                    false => Came::Lost,
                });
                return !e.is_go_away() && !e.is_io();
            }
        };
        let mut whole = Vec::new();
        while let Some(data) = body.data().await {
            match data {
                Ok(data) => {
                    let _ = body.flow_control().release_capacity(data.len());
                    whole.extend(&data);
                }
                Err(e) => {
                    self.tally.came(match head.status.as_u16() {
                        200 => Came::Cut,
                        status => Came::Wrong(format!("{status}: {e}")),
                    });
                    return e.is_reset();
                }
            }
        }
        let generation = head.headers.get("x-generation");
        let generation = generation.map(|g| g.to_str().unwrap());
        asked.judge(head.status.as_u16(), generation, &whole, &self.tally);
        true
    }

    async fn over_h2(&self, connection: &Shared) {
        let mut made = 0;
        while self.amount.takes(made) {
            made += 1;
            let asked = Asked::new(self);
            let (number, send) = connection.get().await;
            match tokio::time::timeout(LIMIT, self.ask_h2(&asked, send)).await {
                Ok(true) => {}
                Ok(false) => connection.leave(number).await,
                Err(_) => self.tally.came(Came::Hung),
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

/// A connection over HTTP/2 that is replaced when it ends.
struct Shared {
    address: SocketAddr,
    open: tokio::sync::Mutex<(u64, Option<SendRequest<Bytes>>)>,
}

impl Shared {
    async fn get(&self) -> (u64, SendRequest<Bytes>) {
        let mut open = self.open.lock().await;
        if open.1.is_none() {
            let stream = TcpStream::connect(self.address).await.unwrap();
            // However many small frames come before it looks at them.
            let mut client = h2::client::Builder::new();
            let client = client.data_frame_budget(usize::MAX).handshake(stream);
            let (send, connection) = client.await.unwrap();
            tokio::spawn(connection);
            *open = (open.0 + 1, Some(send));
        }
        (open.0, open.1.clone().unwrap())
    }

    async fn leave(&self, number: u64) {
        let mut open = self.open.lock().await;
        if open.0 == number {
            open.1 = None;
        }
    }
}

async fn over_h2(address: SocketAddr, clients: [Client; 3]) {
    let shared = Shared {
        address,
        open: tokio::sync::Mutex::default(),
    };
    let [a, b, c] = &clients;
    tokio::join!(a.over_h2(&shared), b.over_h2(&shared), c.over_h2(&shared));
}
