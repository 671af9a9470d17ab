//! What the command line says of itself to other programs: pages for man(1), and scripts for shells.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::Cli;
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::{self, Reporter};

const NAME: &str = "meshboot";

/// Pages that were written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Pages {
    /// Their files' names.
    pages: Vec<String>,
}

/// Writes a page for the program and for each of its verbs, but for those that only machines use.
///
/// # Errors
///
/// The directory cannot be made, or a page not be written.
pub fn pages(directory: &Path, reporter: &Reporter) -> Result<(), Failure> {
    let made = fs::create_dir_all(directory);
    made.with_context(|| format!("cannot make {}", directory.display())).or_fail(Code::CannotCreate)?;
    // `help` says what the pages say.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    write(&program, directory, &mut pages).or_fail(Code::Io)?;
    let place = directory.display();
    let text = format!("{} pages are in {place}: man -l {place}/{NAME}.1", pages.len());
    reporter.result(&Pages { pages }, &text);
    Ok(())
}

fn write(command: &Command, directory: &Path, pages: &mut Vec<String>) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone())
        .source(format!("{NAME} {version}"))
        .manual("Kubernetes on machines joined by cables");
    let page = man.get_filename();
    man.generate_to(directory).with_context(|| format!("cannot write {page} in {}", directory.display()))?;
    pages.push(page);
    command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .try_for_each(|verb| write(verb, directory, pages))
}

/// Prints the script for a shell.
///
/// # Errors
///
/// It is no text.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    let script = String::from_utf8(script).context("the script is no text").or_fail(Code::Software)?;
    progress::out(script.trim_end());
    Ok(())
}
