//! How a command ends badly: one line, what to do next, and an exit code of sysexits.

use std::fmt;
use std::process::ExitCode;

use schemars::{Schema, SchemaGenerator, json_schema};

/// Exit codes, as `sysexits.h` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The command line is wrong.
    Usage,
    /// What was given to work on is wrong.
    Data,
    /// Something that is needed is not there: a tool, a daemon, memory.
    Unavailable,
    /// A mistake of this program, or one that it did not foresee.
    Software,
    /// Something cannot be made: it exists, or there is no room.
    CannotCreate,
    /// Reading or writing failed.
    Io,
    /// It may work another time: a limit ran out.
    TryAgain,
    /// The user may not do this.
    NoPermission,
    /// The settings are wrong.
    Config,
}

/// Why a command failed, and what the user can do about it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What was attempted on what, and why it failed.
    pub error: anyhow::Error,
    /// What to do next, where that is known.
    pub next: Option<String>,
}

/// Gives an error its exit code.
pub trait OrFail<T> {
    /// The value, or a failure with this code.
    ///
    /// # Errors
    ///
    /// The error, with its code.
    fn or_fail(self, code: Code) -> Result<T, Failure>;
}

// === impl Failure ===

impl Failure {
    /// A failure whose whole reason is `message`.
    #[must_use]
    pub fn new(code: Code, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { code, error: anyhow::Error::msg(message), next: None }
    }

    /// The same failure with what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The whole chain of reasons on one line.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{:#}", self.error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: Code::Software, error, next: None }
    }
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: Code) -> Result<T, Failure> {
        self.map_err(|error| Failure { code, error: error.into(), next: None })
    }
}

// === impl Code ===

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

impl Code {
    /// Every code, by its number.
    pub const ALL: [Self; 9] = [
        Self::Usage,
        Self::Data,
        Self::Unavailable,
        Self::Software,
        Self::CannotCreate,
        Self::Io,
        Self::TryAgain,
        Self::NoPermission,
        Self::Config,
    ];

    /// The schema of a code's number.
    pub(crate) fn numbers(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": Self::ALL.map(Self::number) })
    }

    /// Its name in `sysexits.h`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "EX_USAGE",
            Self::Data => "EX_DATAERR",
            Self::Unavailable => "EX_UNAVAILABLE",
            Self::Software => "EX_SOFTWARE",
            Self::CannotCreate => "EX_CANTCREAT",
            Self::Io => "EX_IOERR",
            Self::TryAgain => "EX_TEMPFAIL",
            Self::NoPermission => "EX_NOPERM",
            Self::Config => "EX_CONFIG",
        }
    }

    /// What it means, for people.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Usage => "the command line is wrong",
            Self::Data => "what was given to work on is wrong",
            Self::Unavailable => "something that is needed is not there: a tool, a daemon, memory",
            Self::Software => "a mistake of this program, or one that it did not foresee",
            Self::CannotCreate => "something cannot be made: it exists, or there is no room",
            Self::Io => "reading or writing failed",
            Self::TryAgain => "it may work another time: a limit ran out",
            Self::NoPermission => "the user may not do this",
            Self::Config => "the settings are wrong",
        }
    }

    /// The number that the process ends with.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::CannotCreate => 73,
            Self::Io => 74,
            Self::TryAgain => 75,
            Self::NoPermission => 77,
            Self::Config => 78,
        }
    }
}
