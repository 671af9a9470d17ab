//! The operator's tool and the appliance: one program.

use std::process::ExitCode;

use bootstrap::cli::Cli;
use bootstrap::exit::Code;
use bootstrap::{telemetry, verbs};
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // To a terminal that is gone nothing can be said.
            let _ = error.print();
            // Help and version are no mistakes.
            return if error.use_stderr() { Code::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    telemetry::init(cli.verbose, cli.verb.is_service());
    // One provider of TLS in the whole program; none can have been installed before it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let output = cli.output;
    match verbs::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => verbs::report(output, &failure),
    }
}
