//! The process log on standard error.

use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter of a log that was started here.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging; the level is that of `RUST_LOG`, else `info`. Later calls change nothing.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let log = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with(lines.with_ansi(ansi)).try_init()
        }
        LogFormat::Json => log.with(lines.json().flatten_event(true)).try_init(),
    };
    // An error means that somebody has started logging before, which is fine; the filter is theirs then.
    if started.is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// The filter in effect; `None`: the log was not started here.
pub fn filter() -> Option<String> {
    FILTER.get()?.with_current(ToString::to_string).ok()
}

/// Replaces the filter, in the syntax of `RUST_LOG`.
///
/// # Errors
/// What is no filter, or a log that was not started here.
pub fn set_filter(text: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(text).map_err(|e| format!("{text:?} is no filter: {e}"))?;
    let Some(handle) = FILTER.get() else {
        return Err("the log was not started here".to_owned());
    };
    handle.reload(filter).map_err(|e| e.to_string())?;
    tracing::info!(
        event = "log_filter",
        filter = text,
        "the log filter is changed"
    );
    Ok(())
}
