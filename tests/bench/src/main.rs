//! The netboot servers beside those that others use, in one run: `cargo xtask bench netboot`.
//!
//! Every server has a cable of its own between two sets of namespaces, all are there at once, and each round asks one
//! after the other, so that whatever else the computer does falls on all of them. What is compared, and how it is honest,
//! is in `tests/README.md`.

mod cable;
mod carrier;
mod content;
mod dhcp;
mod drain;
mod durable;
mod http;
mod least;
mod machine;
mod meshboot;
mod mirrors;
mod report;
mod rivals;
mod rounds;
mod server;
mod shaper;
mod tftp;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use mirrors::Mirrors;
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
    /// Not those servers but the mirrors, beside docker-registry.
    #[arg(long)]
    mirrors: bool,
    /// Where the figures go as JSON, every sample too.
    #[arg(value_name = "FILE")]
    json: Option<PathBuf>,
    /// Be the DHCPv6 server that many clients share, with its journal here.
    #[arg(long, hide = true, value_name = "FILE")]
    serve_durable: Option<PathBuf>,
    /// Be a TFTP server that does no more than it must, for this file.
    #[arg(long, hide = true, value_name = "FILE")]
    serve_least: Option<PathBuf>,
    /// Be the way to somewhere far: listen on the first address and pass connections on to the second one.
    #[arg(long, hide = true, num_args = 2, value_name = "ADDRESS")]
    shape: Vec<SocketAddr>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.serve_durable, &arguments.serve_least, arguments.shape.as_slice()) {
        (Some(journal), ..) => durable::serve(journal),
        (None, Some(file), _) => least::serve(file),
        (None, None, [listen, to]) => shaper::serve(*listen, *to),
        (None, None, _) => compare(&arguments),
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
    let programs = Programs { meshboot: beside.join("meshboot"), myself };
    let (report, rounds) = if arguments.mirrors {
        let size = if arguments.quick { mirrors::Size::QUICK } else { mirrors::Size::FULL };
        let rounds = arguments.rounds.unwrap_or(size.rounds);
        say(&format!("{rounds} rounds on {machine:#}"));
        let mut bench = Mirrors::prepare(size, folder.path(), &programs)?;
        each(rounds, |round| bench.round(round))?;
        (bench.end()?, rounds)
    } else {
        let size = if arguments.quick { Size::QUICK } else { Size::FULL };
        let rounds = arguments.rounds.unwrap_or(size.rounds);
        say(&format!("{rounds} rounds on {machine:#}"));
        let mut bench = Bench::start(size, arguments.only.clone(), folder.path(), &programs)?;
        each(rounds, |_| bench.round())?;
        (bench.end()?, rounds)
    };
    show(&report.table());
    if let Some(path) = &arguments.json {
        write(path, &format!("{:#}\n", report.json(&machine, rounds)))?;
    }
    Ok(())
}

fn each(rounds: usize, mut round: impl FnMut(usize) -> Result<()>) -> Result<()> {
    (1..=rounds).try_for_each(|number| {
        say(&format!("round {number} of {rounds}"));
        round(number)
    })
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
