//! The netboot servers beside those that others use, in one run: `cargo xtask bench netboot`.
//!
//! Every server has a cable of its own between two sets of namespaces, all are there at once, and each round asks one
//! after the other, so that whatever else the computer does falls on all of them. What is compared, and how it is honest,
//! is in `tests/README.md`.

mod cable;
mod carrier;
mod content;
mod dhcp;
mod durable;
mod http;
mod least;
mod machine;
mod meshboot;
mod report;
mod rivals;
mod rounds;
mod server;
mod tftp;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use rounds::{Bench, Programs, Size};

/// The netboot servers beside those that others use.
#[derive(Debug, Parser)]
struct Arguments {
    /// Small files, short loads and few rounds: whether it works, and not how fast.
    #[arg(long)]
    quick: bool,
    /// How many rounds; by default 5, or 2 of the quick ones.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Only this part: dhcp, tftp, http or carrier.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Where the figures go as JSON, every sample too.
    #[arg(value_name = "FILE")]
    json: Option<PathBuf>,
    /// Be the DHCPv6 server that many clients share, with its journal here.
    #[arg(long, hide = true, value_name = "FILE")]
    serve_durable: Option<PathBuf>,
    /// Be a TFTP server that does no more than it must, for this file.
    #[arg(long, hide = true, value_name = "FILE")]
    serve_least: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.serve_durable, &arguments.serve_least) {
        (Some(journal), _) => durable::serve(journal),
        (None, Some(file)) => least::serve(file),
        (None, None) => compare(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    let versions = rivals::versions()?;
    let myself = std::env::current_exe()?;
    let beside = myself.parent().context("this program is nowhere")?.to_owned();
    // Beside the programs and not where the system keeps such: that may be memory, where durable costs nothing.
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&beside)?;
    let awake = machine::keep_awake();
    let machine = machine::describe(folder.path(), &versions, awake.is_some())?;
    let size = if arguments.quick { Size::QUICK } else { Size::FULL };
    let rounds = arguments.rounds.unwrap_or(size.rounds);
    say(&format!("{rounds} rounds on {machine:#}"));
    let programs = Programs { meshboot: beside.join("meshboot"), myself };
    let mut bench = Bench::start(size, arguments.only.clone(), folder.path(), &programs)?;
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        bench.round()?;
    }
    let report = bench.end()?;
    show(&report.table());
    if let Some(path) = &arguments.json {
        write(path, &format!("{:#}\n", report.json(&machine, rounds)))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn show(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "this is the edge: a person reads it")]
fn say(text: &str) {
    eprintln!("{text}");
}
