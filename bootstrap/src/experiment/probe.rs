//! Asks a server again and again, from this computer or from a node, and writes down what came of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::plan::Probe;
use super::trace::{Question, Trace};
use super::witness::curl;
use crate::ssh::{Host, PROGRAM, Ssh};

/// A shell that was lost is opened anew after this.
const RETRY: Duration = Duration::from_secs(1);
/// How long a node may take to let somebody in. An emulated one that is busy takes more than ten seconds.
const LOGIN: Duration = Duration::from_secs(60);

/// A probe that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    _tasks: JoinSet<()>,
    book: Book,
}

/// Where questions are written down, and what their times count from.
#[derive(Debug, Clone)]
struct Book {
    trace: Arc<Mutex<Trace>>,
    written: Arc<Notify>,
    begun: Instant,
}

// === impl Running ===

impl Running {
    /// Asks from this computer; each question for itself, so that one that is not answered holds no other up.
    pub(super) fn from_host(probe: &Probe, url: String, client: reqwest::Client, begun: Instant) -> Self {
        let (kept, every) = (Book::new(begun), probe.every);
        let book = kept.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut questions = JoinSet::new();
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (client, url, book) = (client.clone(), url.clone(), book.clone());
                questions.spawn(async move {
                    let at = Instant::now();
                    let answer = client.get(url).send().await;
                    let good = answer.is_ok_and(|answer| answer.status().is_success());
                    book.note(at, good.then(|| at.elapsed()));
                });
                while questions.try_join_next().is_some() {}
            }
        });
        Self { _tasks: tasks, book: kept }
    }

    /// Asks from a node, in a shell that stays open: what it finds out while it cannot be reached it tells later.
    pub(super) fn from_node(probe: &Probe, url: &str, ssh: &Ssh, host: Host, begun: Instant) -> Self {
        let script = format!(
            "while printf '%s ' \"$(cut -d ' ' -f 1 /proc/uptime)\"; do {}; sleep {}; done",
            curl(url, probe.timeout),
            probe.every.as_secs_f64()
        );
        let kept = Book::new(begun);
        let book = kept.clone();
        let arguments = ssh.arguments(&host);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut first = None;
            loop {
                let shell = Command::new(PROGRAM)
                    // A cut cable must not end it, for whoever gives up tells nothing; a node that has restarted knows nothing
                    // of the connection, and says so when it hears of it.
                    .args([
                        "-o",
                        "ServerAliveInterval=5",
                        "-o",
                        "ServerAliveCountMax=10000",
                        "-o",
                        &format!("ConnectTimeout={}", LOGIN.as_secs()),
                    ])
                    .args(&arguments)
                    .args(["--", &script])
                    .stdin(std::process::Stdio::null())
                    .stdout(std::process::Stdio::piped())
                    .stderr(std::process::Stdio::null())
                    .kill_on_drop(true)
                    .spawn();
                if let Ok(mut shell) = shell
                    && let Some(output) = shell.stdout.take()
                {
                    let mut lines = BufReader::new(output).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        book.note_line(&line, &mut first);
                    }
                }
                // After a restart its clock counts anew.
                first = None;
                sleep(RETRY).await;
            }
        });
        Self { _tasks: tasks, book: kept }
    }

    /// Waits for the first that is written down; whether there was any in the time that a node may take to let somebody in.
    pub(super) async fn begins(&self) -> bool {
        timeout(LOGIN, self.book.written.notified()).await.is_ok()
    }

    /// What came of it so far.
    pub(super) fn trace(&self) -> Trace {
        self.book.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Book ===

impl Book {
    fn new(begun: Instant) -> Self {
        Self { trace: Arc::default(), written: Arc::default(), begun }
    }

    fn note(&self, at: Instant, took: Option<Duration>) {
        self.push(Question { at: at.saturating_duration_since(self.begun), took });
    }

    fn push(&self, question: Question) {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).push(question);
        self.written.notify_one();
    }

    /// Takes what the node's shell wrote: `12345.67 200 0.012`, the time by a clock that nobody sets. The first line of a
    /// shell comes at once: `first` is when that was by its clock and by ours.
    fn note_line(&self, line: &str, first: &mut Option<(Duration, Duration)>) {
        let Some((uptime, status, took)) = parsed(line) else { return };
        let now = self.begun.elapsed();
        let (its, ours) = first.get_or_insert_with(|| (uptime, now.saturating_sub(took)));
        let at = *ours + uptime.saturating_sub(*its);
        self.push(Question { at, took: (200..300).contains(&status).then_some(took) });
    }
}

fn parsed(line: &str) -> Option<(Duration, u16, Duration)> {
    let time = |word: &str| Duration::try_from_secs_f64(word.parse().ok()?).ok();
    let mut words = line.split_whitespace();
    Some((time(words.next()?)?, words.next()?.parse().ok()?, time(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_lines_are_put_on_our_clock() {
        let book = Book::new(Instant::now());
        let mut first = None;
        book.note_line("1000.00 200 0.000", &mut first);
        book.note_line("1002.50 000 0.500", &mut first);
        book.note_line("what", &mut first);
        book.note_line("1003.00 503 0.010", &mut first);
        let trace = book.trace.lock().unwrap().clone();
        let answers: Vec<bool> = trace.questions().iter().map(|question| question.took.is_some()).collect();
        assert_eq!(answers, [true, false, false]);
        let gaps: Vec<u64> =
            trace.questions().windows(2).map(|two| (two[1].at - two[0].at).as_secs()).collect();
        assert_eq!(gaps, [2, 0]);
        assert!(trace.questions()[0].at < Duration::from_secs(5));
    }

    #[test]
    fn a_node_that_booted_meanwhile_asks_now_and_not_before() {
        let begun = Duration::from_mins(5);
        let book = Book::new(Instant::now().checked_sub(begun).unwrap());
        book.note_line("40.00 200 0.010", &mut None);
        let at = book.trace.lock().unwrap().questions()[0].at;
        assert!(at.abs_diff(begun) < Duration::from_secs(5), "{at:?}");
    }
}
