//! Work that somebody waits for only so long, and that must neither stop in the middle nor be done twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A result that nobody was there to hear is kept for so long. Whoever asks later has begun something new.
const KEEP: Duration = Duration::from_secs(20);

/// Work that is under way or was just done, by what was asked.
#[derive(Debug)]
pub struct Once<Q, A> {
    known: Arc<Mutex<Vec<Entry<Q, A>>>>,
}

#[derive(Debug)]
struct Entry<Q, A> {
    question: Q,
    answer: watch::Receiver<Option<(Instant, A)>>,
}

// === impl Once ===

impl<Q, A> Once<Q, A>
where
    Q: Clone + PartialEq,
    A: Clone + Send + Sync + 'static,
{
    /// The answer to a question. Work on it begins unless it is under way already, or was done a moment ago for somebody
    /// who had left; it goes on if the caller leaves. None if it ended without an answer.
    pub async fn ask(&self, question: Q, work: impl Future<Output = A> + Send + 'static) -> Option<A> {
        let mut answer = self.begin(&question, work);
        let answered = answer.wait_for(Option::is_some).await.ok()?.clone();
        // Heard: the next one who asks this wants a new answer.
        self.known().retain(|entry| entry.question != question || !entry.answer.same_channel(&answer));
        answered.map(|(_, answer)| answer)
    }

    fn begin(
        &self,
        question: &Q,
        work: impl Future<Output = A> + Send + 'static,
    ) -> watch::Receiver<Option<(Instant, A)>> {
        let mut known = self.known();
        known.retain(Entry::is_of_use);
        if let Some(entry) = known.iter().find(|entry| entry.question == *question) {
            return entry.answer.clone();
        }
        let (done, answer) = watch::channel(None);
        tokio::spawn(async move {
            let answer = work.await;
            done.send_replace(Some((Instant::now(), answer)));
        });
        known.push(Entry { question: question.clone(), answer: answer.clone() });
        answer
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<Entry<Q, A>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q, A> Clone for Once<Q, A> {
    fn clone(&self) -> Self {
        Self { known: Arc::clone(&self.known) }
    }
}

impl<Q, A> Default for Once<Q, A> {
    fn default() -> Self {
        Self { known: Arc::default() }
    }
}

// === impl Entry ===

impl<Q, A> Entry<Q, A> {
    fn is_of_use(&self) -> bool {
        match &*self.answer.borrow() {
            Some((done, _)) => done.elapsed() < KEEP,
            None => self.answer.has_changed().is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Work that takes five seconds, and says how often it was begun.
    fn work(begun: &Arc<AtomicU32>) -> impl Future<Output = u32> + Send + 'static {
        let begun = Arc::clone(begun);
        async move {
            let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(Duration::from_secs(5)).await;
            number
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_gets_what_was_begun_for_the_one_who_left() {
        let (once, begun) = (Once::default(), Arc::default());
        for _ in 0..2 {
            let left = tokio::time::timeout(Duration::from_secs(2), once.ask("a", work(&begun))).await;
            assert!(left.is_err());
        }
        assert_eq!(once.ask("a", work(&begun)).await, Some(1));
        assert_eq!(once.ask("b", work(&begun)).await, Some(2), "another question");
        assert_eq!(once.ask("a", work(&begun)).await, Some(3), "the first answer was heard");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_heard_is_kept_for_a_while() {
        let (once, begun) = (Once::default(), Arc::default());
        let ask = || tokio::time::timeout(Duration::from_secs(1), once.ask("a", work(&begun)));
        assert!(ask().await.is_err());
        tokio::time::sleep(KEEP).await;
        assert_eq!(ask().await, Ok(Some(1)), "done 15 seconds ago");
        assert!(ask().await.is_err());
        tokio::time::sleep(KEEP * 2).await;
        assert!(ask().await.is_err(), "that was another boot");
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn work_that_ends_without_an_answer_is_begun_anew() {
        let once = Once::default();
        let ends: fn() -> u32 = || panic!("it ends badly");
        assert_eq!(once.ask("a", async move { ends() }).await, None);
        assert_eq!(once.ask("a", async { 7 }).await, Some(7));
    }
}
