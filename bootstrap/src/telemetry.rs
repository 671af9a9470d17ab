//! What the program says while it works: to an operator by [`crate::progress`], to a log by `tracing`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The variable that chooses what is logged, as `meshboot=debug,kube=warn`.
pub const LOG_VARIABLE: &str = "MESHBOOT_LOG";

/// Starts the log on standard error: warnings, and more with each `-v`.
///
/// A service logs as much without being asked: it has nobody at a terminal.
pub fn init(verbosity: u8, is_service: bool) {
    let level = match verbosity.saturating_add(u8::from(is_service)) {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let chosen = std::env::var(LOG_VARIABLE).unwrap_or_default();
    // An API server that does not answer yet is told by those who wait for it, not by the client's library.
    let filter =
        EnvFilter::builder().parse_lossy(format!("{level},kube_client::client::builder=off,{chosen}"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    // The journal gives each line its time.
    let started = if is_service {
        log.with_writer(std::io::stderr).without_time().try_init()
    } else {
        log.with_writer(std::io::stderr).try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "a log is there already");
    }
}
