//! Programs that others have written, on both sides of the gateway: what they do with each other they must do through it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::gateway::{Gateway, PATIENCE};
use crate::objects::Object;
use crate::process::Process;

/// Exit status of `peers/python.sh` for what this machine does not have.
const NOT_HERE: i32 = 77;

/// A Python with what `peers/NAME/requirements.txt` lists; `None` where that cannot be had, which is said, and which
/// `REQUIRE_RIG=1` makes an error.
fn python(name: &str) -> Result<Option<String>> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let output = Command::new(peers.join("python.sh"))
        .arg(peers.join(name))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    if output.status.success() {
        let path = String::from_utf8(output.stdout)?;
        return Ok(Some(path.trim().to_owned()));
    }
    let required = std::env::var("REQUIRE_RIG").as_deref() == Ok("1");
    if output.status.code() != Some(NOT_HERE) || required {
        bail!("no Python for peers/{name}: {said}");
    }
    eprintln!("peers/{name}: SKIPPED: {said}");
    Ok(None)
}

/// WebSocket: every check of `peers/websocket/peer.py`, from client to server directly and through the gateway.
pub fn websocket(gateway: &mut dyn Gateway) -> Result<()> {
    let Some(python) = python("websocket")? else {
        return Ok(());
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/websocket/peer.py");
    let server = Process::start(Command::new(&python).args([script, "server"]))?;
    let address = server
        .stdout
        .wait(PATIENCE, |l| {
            l.strip_prefix("listening ").map(str::to_owned)
        })
        .with_context(|| format!("the server does not start:\n{}", server.stderr.tail(20)))?;
    let route = include_str!("../peers/websocket/route.yaml").replace("${server}", &address);
    gateway.apply(&Object::parse_all(&route)?)?;
    let ours = gateway.address()?.to_string();
    crate::gateway::eventually(|| {
        let answer = crate::client::get(ours.parse()?, "ws.test", "/")?;
        // What a WebSocket server has to say to a plain request.
        ensure!(answer.status == 426, "status {}", answer.status);
        Ok(())
    })?;
    let output = Command::new(&python)
        .args([script, "client", "ws.test", &address, &ours])
        .output()?;
    ensure!(
        output.status.success(),
        "not everything is as it is without us ({address} is the server itself):\n{}{}\n--- the gateway's last lines\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        gateway.log_tail()
    );
    Ok(())
}
