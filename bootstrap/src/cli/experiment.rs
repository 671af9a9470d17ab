//! The command line of `experiment`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with experiments.
#[derive(Debug, Subcommand)]
pub enum Experiment {
    /// Run one, and compare what came of it with what it expects.
    Run(RunExperiment),
    /// Find every mistake in one, and do nothing.
    Check {
        /// A file, or the name of one that comes with the program.
        #[arg(value_name = "FILE|NAME")]
        file: String,
        /// Let a name of its `with` stand for something else; again for another.
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
    },
    /// Show those that come with the program.
    List,
    /// Show the file of one of them.
    Show {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Options of `experiment run`.
#[derive(Debug, Args)]
#[command(after_help = "\
    Whatever happens, faults that were made are undone and objects that were made are removed. It ends with exit code 65 if \
    not all was as expected.")]
pub struct RunExperiment {
    /// A file, or the name of one that comes with the program.
    #[arg(value_name = "FILE|NAME")]
    pub file: String,
    /// Let a name of its `with` stand for something else; again for another.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Draw what happened: a lane for each machine; - for standard output, and nothing else.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("`{text}` is not NAME=VALUE"))
}
