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
    tell_panics();
}

/// Every panic is one line of the log from now on.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(
            event = "panic",
            thread = std::thread::current().name(),
            at = place.as_deref(),
            what = constant(panic.payload()),
            "a panic"
        );
    }));
}

/// What a panic says, where that is part of the program: what was put together may hold what no log may have.
fn constant(payload: &(dyn std::any::Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_panic_only_what_is_constant_is_told() {
        let said = |run: fn()| {
            let payload = std::panic::catch_unwind(run).unwrap_err();
            constant(&*payload)
        };
        assert_eq!(said(|| panic!("constant")), Some("constant"));
        assert_eq!(said(|| panic!("{}", std::process::id())), None);
    }
}
