//! What a person, or a program, gets to see while a command works.
//!
//! On a terminal one line tells the stage, how far it is and what it waits for; elsewhere each stage and each
//! new reason to wait is a line. With `-o json` every event is a line of JSON on standard output.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use schemars::JsonSchema;
use serde::Serialize;

use crate::answers::{self, Answer};
use crate::exit::{Code, Failure, OrFail as _};

const TICK: Duration = Duration::from_millis(120);
/// Elsewhere than on a terminal, how far a stage is is told this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// The form of what a command says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON document a line.
    Json,
}

/// Tells how far a command is.
#[derive(Debug)]
pub struct Reporter {
    output: Output,
    bar: Option<ProgressBar>,
    begun: Instant,
    state: Mutex<State>,
    silent: bool,
}

#[derive(Debug, Default)]
struct State {
    stage: Option<(String, Instant)>,
    past: Vec<StageTime>,
    waiting: String,
    told: Option<Instant>,
}

/// What a program may be told before a command's answer, or in place of one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage begins.
    Stage {
        /// Its name.
        stage: String,
    },
    /// A stage is over.
    StageDone {
        /// Its name.
        stage: String,
        /// How long it took.
        seconds: f64,
    },
    /// How far a stage is; told now and then.
    Progress {
        /// So many octets are done.
        done: u64,
        /// Of so many, if that is known.
        total: Option<u64>,
    },
    /// Something is waited for. The same reason is told once.
    Waiting {
        /// What is waited for.
        reason: String,
        /// For how long at most it still will be.
        seconds_left: u64,
    },
    /// Something happened.
    Line {
        /// What.
        text: String,
    },
    /// A line of some tool's.
    Detail {
        /// The line.
        text: String,
    },
    /// Something that the user should read.
    Warning {
        /// What.
        text: String,
    },
    /// The command failed; nothing follows.
    Error {
        /// The exit code.
        #[schemars(schema_with = "Code::numbers")]
        code: u8,
        /// What was attempted on what, and why it failed.
        error: String,
        /// What to do next, where that is known.
        next: Option<String>,
    },
}

/// How long a stage took.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StageTime {
    /// The stage.
    pub stage: String,
    /// Its seconds.
    pub seconds: f64,
}

// === impl Reporter ===

impl Reporter {
    /// A reporter for this form, which looks at whether standard error is a terminal.
    #[must_use]
    pub fn new(output: Output) -> Self {
        let is_terminal = output == Output::Text && io::stderr().is_terminal();
        let bar = is_terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(spinner());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { output, bar, begun: Instant::now(), state: Mutex::default(), silent: false }
    }

    /// A reporter that says nothing.
    #[must_use]
    pub fn silent() -> Self {
        let bar = Some(ProgressBar::hidden());
        Self { output: Output::Text, bar, begun: Instant::now(), state: Mutex::default(), silent: true }
    }

    /// The form.
    #[must_use]
    pub fn output(&self) -> Output {
        self.output
    }

    /// A new stage begins; the one before it is over.
    pub fn stage(&self, name: &str) {
        self.end_stage();
        self.with(|state| {
            state.stage = Some((name.to_owned(), Instant::now()));
            state.waiting.clear();
            state.told = None;
        });
        match (&self.bar, self.output) {
            (_, Output::Json) => told(&Event::Stage { stage: name.to_owned() }),
            (Some(bar), Output::Text) => {
                bar.set_style(spinner());
                bar.set_message(name.to_owned());
            }
            (None, Output::Text) => say(&format!("==> {name}")),
        }
    }

    /// So many octets of the stage are done.
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        let due = self.with(|state| {
            let due = state.told.is_none_or(|told| told.elapsed() >= PLAIN_INTERVAL);
            if due {
                state.told = Some(Instant::now());
            }
            due
        });
        match (&self.bar, self.output) {
            (_, Output::Json) => {
                if due {
                    told(&Event::Progress { done, total });
                }
            }
            (Some(bar), Output::Text) => {
                if let Some(total) = total.filter(|total| *total > 0) {
                    if bar.length() != Some(total) {
                        bar.set_style(bytes_bar());
                        bar.set_length(total);
                        bar.reset_eta();
                    }
                    bar.set_position(done);
                } else {
                    bar.set_position(done);
                }
            }
            (None, Output::Text) => {
                if due && done > 0 {
                    let of = total.map(|total| format!(" of {}", HumanBytes(total))).unwrap_or_default();
                    say(&format!("    {}{of}", HumanBytes(done)));
                }
            }
        }
    }

    /// What is being waited for, and for how long at most it still will be.
    pub fn waiting(&self, reason: &str, left: Duration) {
        let is_new = self.with(|state| {
            let is_new = state.waiting != reason;
            reason.clone_into(&mut state.waiting);
            is_new
        });
        match (&self.bar, self.output) {
            (Some(bar), Output::Text) => {
                let stage =
                    self.with(|state| state.stage.clone().map(|(stage, _)| stage)).unwrap_or_default();
                bar.set_message(format!("{stage}: {reason} (for {} more at most)", HumanDuration(left)));
            }
            (None, Output::Text) if is_new => say(&format!("    {reason}")),
            (_, Output::Json) if is_new => {
                told(&Event::Waiting { reason: reason.to_owned(), seconds_left: left.as_secs() })
            }
            (None, Output::Text) | (_, Output::Json) => {}
        }
    }

    /// Something that happened.
    pub fn line(&self, text: &str) {
        match (&self.bar, self.output) {
            (_, Output::Json) => told(&Event::Line { text: text.to_owned() }),
            (Some(bar), Output::Text) => bar.println(format!("    {text}")),
            (None, Output::Text) => say(&format!("    {text}")),
        }
    }

    /// A line of some tool's: of interest on a terminal for a moment, else only to who asks for more.
    pub fn detail(&self, text: &str) {
        match (&self.bar, self.output) {
            (_, Output::Json) => told(&Event::Detail { text: text.to_owned() }),
            (Some(bar), Output::Text) => {
                let stage =
                    self.with(|state| state.stage.clone().map(|(stage, _)| stage)).unwrap_or_default();
                bar.set_message(format!("{stage}: {text}"));
            }
            (None, Output::Text) => tracing::info!("{text}"),
        }
    }

    /// Something that the user should read.
    pub fn warn(&self, text: &str) {
        match (&self.bar, self.output) {
            (_, Output::Json) => told(&Event::Warning { text: text.to_owned() }),
            (Some(bar), Output::Text) => bar.println(format!("warning: {text}")),
            (None, Output::Text) => say(&format!("warning: {text}")),
        }
    }

    /// The last stage is over. Returns how long each took.
    pub fn finish(&self) -> Vec<StageTime> {
        self.end_stage();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.with(|state| std::mem::take(&mut state.past))
    }

    /// How long ago the command began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The result: `text` for people, `answer` for programs. It goes to standard output.
    pub fn result(&self, answer: &impl Answer, text: &str) {
        if self.silent {
            return;
        }
        match self.output {
            Output::Json => match answers::line(answer) {
                Ok(line) => out(&line),
                Err(error) => tracing::error!(%error, "the result cannot be written as JSON"),
            },
            Output::Text => out(text.trim_end()),
        }
    }

    fn end_stage(&self) {
        let ended = self.with(|state| {
            let (stage, begun) = state.stage.take()?;
            let time = StageTime { stage, seconds: begun.elapsed().as_secs_f64() };
            state.past.push(time.clone());
            Some(time)
        });
        let Some(time) = ended else { return };
        match (&self.bar, self.output) {
            (_, Output::Json) => told(&Event::StageDone { stage: time.stage, seconds: time.seconds }),
            (Some(bar), Output::Text) => bar.println(format!("  ✓ {} ({:.1} s)", time.stage, time.seconds)),
            (None, Output::Text) => say(&format!("    done in {:.1} s", time.seconds)),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Tells a failure, in the form that was asked for.
pub fn report_failure(output: Output, failure: &Failure) {
    let message = failure.message();
    if output == Output::Json {
        let (code, next) = (failure.code.number(), failure.next.clone());
        told(&Event::Error { code, error: message.clone(), next });
    }
    say(&format!("meshboot: {message}"));
    if let Some(next) = &failure.next {
        say(&format!("  next: {next}"));
    }
}

fn told(event: &Event) {
    match serde_json::to_string(event) {
        Ok(line) => out(&line),
        Err(error) => tracing::error!(%error, "an event cannot be written as JSON"),
    }
}

/// A line without what would move a terminal's cursor or change its colours.
#[must_use]
pub fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            // A control sequence: parameters, then one letter [ECMA-48 § 5.4].
            '\u{1b}' if letters.peek() == Some(&'[') => {
                letters.next();
                while letters.next_if(|letter| !('@'..='~').contains(letter)).is_some() {}
                letters.next();
            }
            '\t' => text.push(letter),
            letter if letter.is_control() => {}
            letter => text.push(letter),
        }
    }
    text
}

/// A line to standard output. A reader that has gone away is no concern of ours.
pub fn out(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A line to standard error.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks the user whether to go on with what cannot be undone, which is said first.
///
/// # Errors
///
/// He says no, or there is nobody to be asked.
pub fn confirm(what: &str, subject: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let message = format!("{what} And nobody can be asked whether that is meant");
        return Err(Failure::new(Code::CannotCreate, message).next("say so with --yes"));
    }
    say(&format!("{what} Write `yes` to go on:"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer").or_fail(Code::Io)?;
    if answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::new(Code::CannotCreate, format!("{subject} was left as it is")))
}

fn spinner() -> ProgressStyle {
    style("{spinner} {wide_msg} {elapsed}")
}

fn bytes_bar() -> ProgressStyle {
    style("{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {eta} left")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_s_colours_and_moves_are_left_out() {
        assert_eq!(plain("\u{1b}[0;32m  OK  \u{1b}[0m] Reached\r"), "  OK  ] Reached");
        assert_eq!(plain("a\tb\u{7}\u{1b}[2J\u{1b}"), "a\tb");
        assert_eq!(plain("\u{1b}[1;"), "");
    }
}
