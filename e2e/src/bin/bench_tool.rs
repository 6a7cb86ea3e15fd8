//! Both ends of the load of `make bench`, beside wrk and h2load; see `diolkos_e2e::measure`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use diolkos_e2e::measure::{backend, handshakes, streams};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

const USAGE: &str = "usage: bench-tool backend LISTEN
       bench-tool events ADDR HOST PATH STREAMS EVENTS
       bench-tool hold ADDR HOST PATH STREAMS
       bench-tool handshakes ADDR HOST PATH CERTIFICATE GROUP SECONDS THREADS";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    match args.as_slice() {
        ["backend", listen] => tasks.block_on(&runtime, backend::run(listen)),
        ["events", address, host, path, count, each] => {
            let source = source(address, host, path)?;
            let events = streams::events(&source, count.parse()?, each.parse()?);
            tasks.block_on(&runtime, events)
        }
        ["hold", address, host, path, count] => {
            let source = source(address, host, path)?;
            tasks.block_on(&runtime, streams::hold(&source, count.parse()?))
        }
        [
            "handshakes",
            address,
            host,
            path,
            certificate,
            group,
            seconds,
            threads,
        ] => {
            let target = handshakes::Target {
                address: address.parse()?,
                host: (*host).to_owned(),
                path: (*path).to_owned(),
            };
            let config = handshakes::client(Path::new(certificate), group)?;
            let time = Duration::from_secs_f64(seconds.parse()?);
            handshakes::run(&config, &target, time, threads.parse()?)
        }
        _ => bail!("{USAGE}"),
    }
}

fn source(address: &str, host: &str, path: &str) -> Result<streams::Source> {
    Ok(streams::Source {
        address: address.parse().context("ADDR is IP:PORT")?,
        host: host.to_owned(),
        path: path.to_owned(),
    })
}
