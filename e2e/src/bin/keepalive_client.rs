//! `keepalive-client ADDR HOST PATH COUNT`: sends COUNT requests one after the other on one connection and fails unless every one
//! is answered with 200 and the connection lasts. The load of `bench/instructions.sh`.

use anyhow::{Context as _, Result, bail, ensure};
use diolkos_e2e::client::{Connection, Request};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, host, path, count] = args.as_slice() else {
        bail!("usage: keepalive-client ADDR HOST PATH COUNT");
    };
    let count: usize = count.parse().context("COUNT is a number")?;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    // About what a browser's API call looks like.
    let request = Request {
        method: "GET".into(),
        host: host.clone(),
        target: path.clone(),
        headers: vec![
            header(
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            header("accept", "application/json, text/plain, */*"),
            header("accept-language", "en-GB,en;q=0.7,el;q=0.3"),
            header("accept-encoding", "gzip, deflate, br, zstd"),
            header("x-request-id", "7f9c2ba4-e88f-4cd1-b8a6-5c3f1d2e0a77"),
        ],
        body: Vec::new(),
    };
    let mut connection = Connection::open(address.parse().context("ADDR is IP:PORT")?)?;
    for i in 0..count {
        let answer = connection.send(&request)?;
        ensure!(answer.status == 200, "answer {i} is {}", answer.status);
        ensure!(
            answer.keep_alive || i + 1 == count,
            "the connection ends after answer {i}"
        );
    }
    Ok(())
}
