//! Runs one command to its end: the only place of this room that starts a process.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Where programs of the administrator are, which a user's PATH may lack.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A command to run.
#[derive(Debug, Clone)]
pub struct Invocation {
    program: OsString,
    arguments: Vec<OsString>,
    stdin: Vec<u8>,
    limit: Duration,
    apart: bool,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error, without blanks at both ends.
    pub stderr: String,
}

/// What a command did first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// It wrote to its standard output.
    Output,
    /// It wrote the line that was looked for to its standard error.
    Complaint(String),
    /// It ended without either.
    End {
        /// What it wrote to its standard error.
        stderr: String,
    },
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such program.
    #[error("`{program}` is not installed")]
    Missing {
        /// The program.
        program: String,
    },
    /// It could not be started, or its pipes failed.
    #[error("`{command}` could not be run")]
    Io {
        /// The whole command.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not end in time, and was killed.
    #[error("`{command}` did not end within {} s and was killed", limit.as_secs())]
    Timeout {
        /// The whole command.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// It ended badly.
    #[error("`{command}` failed{}: {stderr}", code.map(|code| format!(" with exit code {code}")).unwrap_or_default())]
    Failed {
        /// The whole command.
        command: String,
        /// Its exit code; none if a signal ended it.
        code: Option<i32>,
        /// What it wrote to its standard error.
        stderr: String,
    },
}

// === impl Invocation ===

impl Invocation {
    /// A command without arguments that must end within `limit`.
    #[must_use]
    pub fn new(program: impl Into<OsString>, limit: Duration) -> Self {
        Self { program: program.into(), arguments: Vec::new(), stdin: Vec::new(), limit, apart: false }
    }

    /// The command with more arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The command with this on its standard input, which is empty otherwise.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.stdin = input.into();
        self
    }

    /// The command in a process group of its own: an interrupt from the terminal is for this program, which may have to
    /// end well what the command is at.
    #[must_use]
    pub const fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Runs it; a bad exit code is an error.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn run(&self) -> Result<String, RunError> {
        let outcome = self.outcome().await?;
        if outcome.code == Some(0) {
            return Ok(outcome.stdout);
        }
        Err(RunError::Failed { command: self.to_string(), code: outcome.code, stderr: outcome.stderr })
    }

    /// Runs it and says how it ended, well or badly.
    ///
    /// # Errors
    ///
    /// [`RunError`], but not [`RunError::Failed`].
    pub async fn outcome(&self) -> Result<Outcome, RunError> {
        let mut child = self.spawn()?;
        let mut pipe = child.stdin.take().expect("the standard input is piped");
        let written = async {
            // A command that ends without having read its input says why on its standard error.
            let _ = pipe.write_all(&self.stdin).await;
            drop(pipe);
        };
        let ended = timeout(self.limit, async { tokio::join!(written, child.wait_with_output()).1 });
        let output = match ended.await {
            Ok(output) => output.map_err(|source| self.error(source))?,
            Err(_) => return Err(RunError::Timeout { command: self.to_string(), limit: self.limit }),
        };
        tracing::trace!(command = %self, code = output.status.code(), "ran");
        Ok(Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Runs it until it writes to its standard output, or writes a line that `is_complaint` to its standard error, or
    /// ends; and kills it then.
    ///
    /// # Errors
    ///
    /// [`RunError`], but not [`RunError::Failed`].
    pub async fn first(&self, is_complaint: fn(&str) -> bool) -> Result<First, RunError> {
        let mut child = self.spawn()?;
        let mut output = child.stdout.take().expect("the standard output is piped");
        let mut lines = BufReader::new(child.stderr.take().expect("the standard error is piped")).lines();
        let first = async {
            let wrote = async {
                match output.read(&mut [0]).await {
                    Ok(1) => First::Output,
                    // The other end is closed: what there is to know is on the standard error.
                    Ok(_) | Err(_) => std::future::pending().await,
                }
            };
            let complained = async {
                let mut stderr = String::new();
                while let Some(line) = lines.next_line().await? {
                    if is_complaint(&line) {
                        return Ok(First::Complaint(line));
                    }
                    stderr.push_str(&line);
                    stderr.push('\n');
                }
                Ok(First::End { stderr: stderr.trim().to_owned() })
            };
            tokio::select! {
                biased;
                first = wrote => Ok(first),
                first = complained => first,
            }
        };
        let first = timeout(self.limit, first).await;
        // It may have ended by itself.
        let _ = child.start_kill();
        let _ = child.wait().await;
        match first {
            Ok(first) => first.map_err(|source| self.error(source)),
            Err(_) => Err(RunError::Timeout { command: self.to_string(), limit: self.limit }),
        }
    }

    fn spawn(&self) -> Result<Child, RunError> {
        let program = find(&self.program).unwrap_or_else(|| PathBuf::from(&self.program));
        let mut command = Command::new(program);
        if self.apart {
            command.process_group(0);
        }
        command
            .args(&self.arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> RunError {
        if source.kind() == io::ErrorKind::NotFound {
            return RunError::Missing { program: self.program.to_string_lossy().into_owned() };
        }
        RunError::Io { command: self.to_string(), source }
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program.to_string_lossy())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", argument.to_string_lossy()))
    }
}

/// Where a program is: in the directories of PATH, then in those of the administrator.
#[must_use]
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).chain(SBIN.map(PathBuf::from)).collect();
    directories.into_iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}
