//! The engine alone, for measurements: every request goes to one upstream, with nothing between the edge gate and the
//! relay. What `make bench-instructions` calls `bare` is this; the difference to `diolkos` is what everything else costs.
//!
//!     bare LISTEN UPSTREAM

use bytes::Bytes;
use diolkos_dataplane::engine::{
    Connections, Down, DownExt, Exchange, Outcome, PoolConfig, PoolCounters, Progress, Service,
    Timeouts, Want, relay,
};
use diolkos_dataplane::listen::{ListenerConfig, Workers, WorkersConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

struct Bare {
    upstream: SocketAddr,
    connections: Connections,
    timeouts: Timeouts,
}

impl Service for Bare {
    async fn serve<D: Down>(&self, x: Exchange<'_, D>) -> Outcome {
        let want = Want::http1(self.upstream);
        let up = match self.connections.idle_h1(&want) {
            Some(up) => Ok(up),
            None => {
                let (limit, timer) = (self.timeouts.connect, x.down.timer());
                let opened = self.connections.connect(&want, limit, timer).await;
                opened.map(|c| c.up)
            }
        };
        let Ok(up) = up else {
            x.answer.reset(502);
            return match x.down.respond(x.answer, Bytes::new()).await {
                Ok(()) => Outcome::Done,
                Err(_) => Outcome::Close,
            };
        };
        let mut progress = Progress::default();
        let (timeouts, tap) = (&self.timeouts, &mut ());
        match relay(
            x.down,
            up,
            x.request,
            x.answer,
            tap,
            timeouts,
            &mut progress,
        )
        .await
        {
            Ok(()) => Outcome::Done,
            Err(_) => Outcome::Close,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(listen), Some(upstream)) = (args.next(), args.next()) else {
        return Err("usage: bare LISTEN UPSTREAM".into());
    };
    let listen: SocketAddr = listen.parse()?;
    let address: SocketAddr = upstream.parse()?;
    let config = WorkersConfig {
        threads: 1,
        connections: 10_000,
        descriptors: i32::MAX,
        per_source: 0,
    };
    let workers = Workers::start(config, move |_| Bare {
        upstream: address,
        connections: Connections::new(PoolConfig::default(), Arc::new(PoolCounters::default())),
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            ..Timeouts::default()
        },
    })?;
    let real = workers.listen(1, listen, ListenerConfig::default()).await?;
    println!("listening address={real}");
    signal(SignalKind::terminate())?.recv().await;
    workers.drain(Duration::from_secs(1)).await;
    Ok(())
}
