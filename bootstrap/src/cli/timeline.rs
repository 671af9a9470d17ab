//! The command line of `timeline`.

use std::path::PathBuf;

use clap::Args;

/// What to show of what happened.
#[derive(Debug, Args)]
#[command(after_help = "\
    Times are by this computer's clock; nodes' clocks do not matter. The second column is the time since something was \
    last broken or mended. A time without fractions is known to the second: Kubernetes told it.")]
pub struct Timeline {
    /// From this time on: -10m, 20:02, 2026-11-29T20:02:11, with a zone or without.
    #[arg(long, value_name = "TIME|-DURATION", value_parser = crate::timeline::since::since, allow_hyphen_values = true)]
    pub since: Option<u64>,
    /// Only what concerns this machine.
    #[arg(long, value_name = "NAME")]
    pub machine: Option<String>,
    /// Draw a picture as well: a lane for each machine; - for standard output, and nothing else.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}
