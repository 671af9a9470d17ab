//! Whether a service deserves its anycast address.

/// How many bad answers in a row are forgiven. A loaded API server is slow, or says for a moment that it is not
/// ready, long before it is dead; without its address the whole site would be without it.
const PATIENCE: u8 = 12;

/// What one question to a service brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A good answer.
    Good,
    /// Nobody listens.
    Gone(String),
    /// No answer in time, or one that is not good: it may be busy.
    Unwell(String),
}

/// What is known of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    held: bool,
    unwell: u8,
    reason: Option<String>,
}

impl Health {
    /// Whether the address shall be held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.held
    }

    /// What the last question brought, if it was no good answer.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Takes one answer into account.
    pub fn observe(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Good => *self = Self { held: true, unwell: 0, reason: None },
            Outcome::Gone(reason) => *self = Self { held: false, unwell: 0, reason: Some(reason) },
            Outcome::Unwell(reason) => {
                self.unwell = self.unwell.saturating_add(1);
                self.held &= self.unwell < PATIENCE;
                self.reason = Some(format!("{reason} ({} times in a row)", self.unwell));
            }
        }
    }

    /// The address could not be put where it belongs, or taken away: the next answer tries again.
    pub fn undo(&mut self) {
        self.held = !self.held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> Outcome {
        Outcome::Gone("connection refused".into())
    }

    fn unwell() -> Outcome {
        Outcome::Unwell("no answer".into())
    }

    #[test]
    fn nothing_is_held_before_the_first_good_answer() {
        let mut health = Health::default();
        assert!(!health.held());
        health.observe(unwell());
        assert!(!health.held());
        health.observe(Outcome::Good);
        assert!(health.held());
        assert_eq!(health.reason(), None);
    }

    #[test]
    fn a_refusal_withdraws_at_once() {
        let mut health = Health::default();
        health.observe(Outcome::Good);
        health.observe(gone());
        assert!(!health.held());
        assert_eq!(health.reason(), Some("connection refused"));
    }

    #[test]
    fn silence_is_forgiven_a_few_times_and_counted_anew_after_an_answer() {
        let mut health = Health::default();
        health.observe(Outcome::Good);
        for _ in 1..PATIENCE {
            health.observe(unwell());
            assert!(health.held());
        }
        health.observe(Outcome::Good);
        for _ in 1..PATIENCE {
            health.observe(unwell());
        }
        assert!(health.held());
        health.observe(unwell());
        assert!(!health.held());
    }
}
