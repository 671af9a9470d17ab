//! What came of a probe: each question, and whether it had an answer.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// The questions of one probe, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace(Vec<Question>);

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// When it was asked, from the beginning of the experiment on.
    pub at: Duration,
    /// How long its answer took; none if there was none, or it was no success.
    pub took: Option<Duration>,
}

/// What is told of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Tally {
    /// Its name.
    pub probe: String,
    /// How many questions.
    pub asked: usize,
    /// How many had an answer.
    pub answered: usize,
    /// The longest time without an answer, in milliseconds.
    pub longest_gap: u64,
    /// When that began, in milliseconds from the beginning of the experiment on.
    pub gap_begins: Option<u64>,
    /// Half of the answers took no longer than this, in milliseconds.
    pub median: Option<u64>,
}

// === impl Trace ===

impl Trace {
    /// Takes one more question down. They may come in any order.
    pub fn push(&mut self, question: Question) {
        let at = self.0.partition_point(|other| other.at <= question.at);
        self.0.insert(at, question);
    }

    /// The questions.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.0
    }

    /// The questions that were asked from one moment to another.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> Self {
        Self(self.0.iter().filter(|question| (from..=to).contains(&question.at)).copied().collect())
    }

    /// The longest time without an answer, and when it began: from one answered question to the next, and at both ends from
    /// the first and to the last question.
    #[must_use]
    pub fn longest_gap(&self) -> Option<(Duration, Duration)> {
        let (first, last) = (self.0.first()?.at, self.0.last()?.at);
        let answered = self.0.iter().filter(|question| question.took.is_some()).map(|question| question.at);
        let ends: Vec<Duration> = std::iter::once(first).chain(answered).chain([last]).collect();
        let gaps = ends.windows(2).map(|pair| (pair[1].saturating_sub(pair[0]), pair[0]));
        gaps.max_by_key(|(gap, begins)| (*gap, std::cmp::Reverse(*begins)))
    }

    /// For how long each question had an answer: from the last one that had none, or the first, to the last of all. While
    /// nothing is asked that does not grow.
    #[must_use]
    pub fn answered_for(&self) -> Duration {
        let silent = self.0.iter().rev().find(|question| question.took.is_none());
        let ends = silent.or_else(|| self.0.first()).zip(self.0.last());
        ends.map_or(Duration::ZERO, |(since, last)| last.at.saturating_sub(since.at))
    }

    /// How many questions had an answer, in per cent; none if there were no questions.
    #[must_use]
    pub fn answered(&self) -> Option<f64> {
        let count = |number: usize| u32::try_from(number).map_or_else(|_| f64::from(u32::MAX), f64::from);
        let answered = self.0.iter().filter(|question| question.took.is_some()).count();
        (!self.0.is_empty()).then(|| 100.0 * count(answered) / count(self.0.len()))
    }

    /// What is told of it.
    #[must_use]
    pub fn tally(&self, probe: &str) -> Tally {
        let mut took: Vec<Duration> = self.0.iter().filter_map(|question| question.took).collect();
        took.sort_unstable();
        let gap = self.longest_gap();
        Tally {
            probe: probe.to_owned(),
            asked: self.0.len(),
            answered: took.len(),
            longest_gap: gap.map_or(0, |(gap, _)| millis(gap)),
            gap_begins: gap.map(|(_, begins)| millis(begins)),
            median: took.get(took.len() / 2).copied().map(millis),
        }
    }
}

/// A time as JSON has it.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
