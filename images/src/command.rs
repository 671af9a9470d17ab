//! Runs the tools that others have written: their output goes to a log file, line by line to whoever watches, and the
//! end of it into the error.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::Command,
};

use crate::{progress::Progress, tools};

#[cfg(test)]
mod tests;

/// How many lines of a tool's output an error shows.
const TAIL: usize = 12;

/// A tool did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not installed.
    #[error("{program} is not installed{}", package.map(|name| format!(" (Debian package {name})")).unwrap_or_default())]
    Missing {
        /// Its name.
        program: String,
        /// The Debian package that has it.
        package: Option<&'static str>,
    },
    /// It could not be started, or its output not be read.
    #[error("running {program}")]
    Io {
        /// Its name.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed, {status}:\n{tail}\nall of its output is in {}", log.display())]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last of what it said.
        tail: String,
        /// Where the rest of it is.
        log: PathBuf,
    },
}

/// Runs tools for one piece of work.
pub(crate) struct Runner<'a> {
    progress: &'a dyn Progress,
    log: PathBuf,
    file: Mutex<File>,
}

// === impl Runner ===

impl<'a> Runner<'a> {
    /// Appends to this log file.
    pub(crate) fn new(log: &Path, progress: &'a dyn Progress) -> io::Result<Self> {
        if let Some(dir) = log.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        Ok(Self { progress, log: log.to_owned(), file: Mutex::new(file) })
    }

    pub(crate) fn progress(&self) -> &'a dyn Progress {
        self.progress
    }

    /// Runs a tool to its end. It is killed if the future is dropped.
    pub(crate) async fn run(&self, command: &mut Command) -> Result<(), CommandError> {
        self.start(command.stdin(Stdio::null()), false).await.map(drop)
    }

    /// Runs a tool that reads what its caller has set as its standard input.
    pub(crate) async fn run_with_input(&self, command: &mut Command) -> Result<(), CommandError> {
        self.start(command, false).await.map(drop)
    }

    /// Runs a tool to its end and gives what it wrote to its standard output.
    pub(crate) async fn output(&self, command: &mut Command) -> Result<String, CommandError> {
        self.start(command.stdin(Stdio::null()), true).await
    }

    async fn start(&self, command: &mut Command, wants_output: bool) -> Result<String, CommandError> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::NotFound {
                CommandError::Missing { package: tools::package_of(&program), program: program.clone() }
            } else {
                CommandError::Io { program: program.clone(), source }
            }
        };
        self.note(&format!("$ {:?}", command.as_std()));
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(io::Error::other("it has no output")));
        };
        let tail = Mutex::new(VecDeque::with_capacity(TAIL));
        let mut captured = String::new();
        let (from_stdout, from_stderr) = tokio::join!(
            async {
                let mut stdout = stdout;
                if wants_output {
                    stdout.read_to_string(&mut captured).await.map(drop)
                } else {
                    self.follow(stdout, &tail).await
                }
            },
            self.follow(stderr, &tail)
        );
        from_stdout.and(from_stderr).map_err(failed)?;
        let status = child.wait().await.map_err(failed)?;
        if status.success() {
            return Ok(captured);
        }
        let tail: Vec<_> = tail.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect();
        Err(CommandError::Failed { program, status, tail: tail.join("\n"), log: self.log.clone() })
    }

    /// Reads lines; progress bars that tools draw over themselves count as lines, too.
    async fn follow(&self, output: impl AsyncRead + Unpin, tail: &Mutex<VecDeque<String>>) -> io::Result<()> {
        let mut output = BufReader::new(output);
        let mut bytes = Vec::new();
        while output.read_until(b'\n', &mut bytes).await? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            for line in text.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty()) {
                self.note(line);
                self.progress.line(line);
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(format!("  {line}"));
            }
            bytes.clear();
        }
        Ok(())
    }

    /// A log that cannot be written is no reason to stop: the errors carry what matters.
    fn note(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            tracing::debug!(%error, "a line was lost from the log");
        }
    }
}

impl std::fmt::Debug for Runner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("log", &self.log).finish_non_exhaustive()
    }
}
