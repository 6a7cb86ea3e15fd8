//! `echo-backend [--name NAME] --listen ADDR...`: a tiny HTTP/1.1 backend that answers with what it saw. See `diolkos_e2e::echo`.

use anyhow::{Context as _, Result, bail};
use diolkos_e2e::echo::Server;

const USAGE: &str = "usage: echo-backend [--name NAME] --listen ADDR [--listen ADDR]...   (port 0 takes a free port)";

fn main() -> Result<()> {
    let mut name = "echo".to_owned();
    let mut addresses = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match flag.as_str() {
            "--name" => name = args.next().context(USAGE)?,
            "--listen" => addresses.push(args.next().context(USAGE)?),
            _ => bail!("{USAGE}"),
        }
    }
    if addresses.is_empty() {
        bail!("{USAGE}");
    }
    let mut threads = Vec::new();
    for address in &addresses {
        let server = Server::bind(&name, address).with_context(|| format!("bind {address}"))?;
        // The line that whoever started this process waits for.
        println!("listening name={name} address={}", server.address()?);
        threads.push(std::thread::spawn(move || server.run()));
    }
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a listener ended"))?;
    }
    Ok(())
}
