//! Asks one thing again and again, and tells how often and for how long there was no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use tests::netns::Network;

/// Each question: when its answer came, and whether it was one.
type Noted = Result<Vec<(Instant, bool)>>;

/// A question that is asked until [`Asking::stop`].
pub(super) struct Asking {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Noted>>,
}

/// What came of it.
pub(super) struct Asked {
    /// How often there was an answer.
    pub(super) answers: usize,
    /// How often there was none.
    pub(super) failed: usize,
    /// The longest time without one.
    pub(super) gap: Duration,
}

impl Asking {
    /// Begins to ask within `network`, with a pause of `every` after each answer.
    pub(super) fn start(
        network: &Network,
        every: Duration,
        mut once: impl FnMut() -> Result<bool> + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, answers) = (Arc::clone(&stop), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&answers);
        let thread = network.spawn("asks", move || {
            let mut noted = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let good = once()?;
                counted.fetch_add(usize::from(good), Ordering::Relaxed);
                noted.push((Instant::now(), good));
                std::thread::sleep(every);
            }
            Ok(noted)
        })?;
        Ok(Self { stop, answers, thread })
    }

    pub(super) fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    pub(super) fn stop(self) -> Result<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        let noted = self.thread.join().expect("who asks panics")??;
        let ends = [noted.first(), noted.last()].map(|end| end.map(|(time, _)| *time));
        let [Some(first), Some(last)] = ends else { anyhow::bail!("nothing was asked") };
        let answered: Vec<Instant> = noted.iter().filter(|(_, good)| *good).map(|(time, _)| *time).collect();
        let times: Vec<Instant> =
            std::iter::once(first).chain(answered.iter().copied()).chain(std::iter::once(last)).collect();
        let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        let (answers, failed) = (answered.len(), noted.len() - answered.len());
        Ok(Asked { answers, failed, gap: gaps.max().unwrap_or_default() })
    }
}
