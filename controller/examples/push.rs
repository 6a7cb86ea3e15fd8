//! The controller's push channel without a cluster and without TLS, for measurements: a directory of manifests goes to
//! every data plane that connects. Each acknowledgement prints a line with what has been sent so far.
//!
//!     push LISTEN DIR

use diolkos_controller::groups::{Group, Groups};
use diolkos_controller::health::Board;
use diolkos_controller::metrics::Metrics;
use diolkos_controller::publish::Publisher;
use diolkos_controller::serve::{Security, serve};
use diolkos_controller::standalone::Standalone;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(listen), Some(dir)) = (args.next(), args.next()) else {
        return Err("usage: push LISTEN DIR".into());
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(push(&listen, dir.into()))
}

async fn push(listen: &str, dir: PathBuf) -> Result<(), Box<dyn Error>> {
    let publisher = Publisher::new("push".to_owned());
    let metrics = Arc::new(Metrics::new()?);
    // Loaded first: a data plane that is turned away comes again only after a pause.
    let _standalone = Standalone::start(vec![dir], Arc::clone(&publisher))?;
    let listener = TcpListener::bind(listen).await?;
    println!("listening address={}", listener.local_addr()?);
    let mut progress = publisher.progress();
    let (entries, omitted) = (&metrics.health_reports, &metrics.health_reports_omitted);
    let health = Board::new(entries.clone(), omitted.clone(), |_| {});
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&health).run(stop.clone()));
    let group = Group::new(Arc::clone(&publisher), health, stop.child_token());
    let server = serve(
        listener,
        Security::Plaintext,
        Groups::new("push", move |_| group.clone()),
        Arc::clone(&metrics),
        watch::channel(false).1,
        None,
        stop,
    );
    let report = async {
        let mut last = None;
        while progress.changed().await.is_ok() {
            let planes = publisher.data_planes();
            let acknowledged = planes.iter().filter_map(|p| p.acknowledged).min();
            if acknowledged > last {
                let generation = acknowledged.unwrap_or_default();
                let sent = metrics.sent_bytes.get();
                println!("acknowledged generation={generation} sent_bytes={sent}");
            }
            last = acknowledged;
        }
    };
    tokio::select! {
        ended = server => ended?,
        () = report => {}
    }
    Ok(())
}
