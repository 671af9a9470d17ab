//! What becomes of a packet, in data and in words.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use netboot_proto::boot::Decision;
use netboot_proto::effect::Event;
use netboot_proto::wire::describe::{self, Description};
use netboot_proto::wire::frame::Frame;
use schemars::JsonSchema;
use serde::Serialize;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is answered.
    Answered,
    /// It is heard, and nothing is to be said.
    Heard,
    /// It is dropped.
    Ignored,
    /// It asks well, and is not answered.
    Refused,
    /// The link is not served. What is said of answers is what they would be.
    NotServed,
    /// It goes to somebody else. What is said of answers is what they would be.
    NotForUs,
    /// This port sent it itself.
    Ours,
}

/// What becomes of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verdict {
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why.
    pub reasons: Vec<String>,
    /// What its sender is told to boot, if that is spoken of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// What is answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Sent>,
}

/// What a client is told to boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Boot {
    /// Where its boot file is, if it is offered one.
    pub url: Option<String>,
    /// Why this one, or none.
    pub reason: String,
}

/// A message of this port's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sent {
    /// To whom.
    pub to: Ipv6Addr,
    /// What it says.
    pub says: Description,
}

// === impl Verdict ===

impl Verdict {
    pub(super) fn new(outcome: Outcome, reason: impl ToString) -> Self {
        Self { outcome, reasons: vec![reason.to_string()], boot: None, answers: Vec::new() }
    }

    pub(super) fn not_for_us(frame: &Frame<'_>) -> Self {
        let to = frame.destination;
        Self::new(Outcome::NotForUs, format!("it is sent to {to}, where this machine does not listen"))
    }

    /// The same as what it would be, were it not for this.
    pub(super) fn instead(mut self, outcome: Outcome, reason: String) -> Self {
        self.outcome = outcome;
        self.reasons.insert(0, reason);
        self
    }

    pub(super) fn note(&mut self, event: Event) {
        match event {
            Event::Answered(answered) => {
                self.outcome = Outcome::Answered;
                if answered.leased {
                    self.reasons.push("whoever asks on the link gets its far address".to_owned());
                }
                self.boot = Some(Boot::of(answered.boot));
            }
            Event::Refused { reason, .. } => {
                self.outcome = Outcome::Refused;
                self.reasons.push(reason.to_string());
            }
            Event::Ignored { reason, .. } => {
                self.outcome = Outcome::Ignored;
                self.reasons.push(reason.to_string());
            }
            Event::Released { .. } => self.reasons.push("the lease stays: it is the link's".to_owned()),
            Event::Declined { .. } => {
                self.reasons.push("it says that somebody else on the link uses the address".to_owned());
            }
            Event::Advertised(_) => {}
        }
    }

    /// The verdict for people.
    #[must_use]
    pub fn text(&self) -> String {
        let word = match self.outcome {
            Outcome::Answered => "answered",
            Outcome::Heard => "heard",
            Outcome::Ignored => "ignored",
            Outcome::Refused => "refused",
            Outcome::NotServed => "not served",
            Outcome::NotForUs => "not for this machine",
            Outcome::Ours => "our own",
        };
        let hypothetical = matches!(self.outcome, Outcome::NotServed | Outcome::NotForUs);
        // The first of them says why it is not so.
        let told = if hypothetical { self.reasons.len().min(1) } else { self.reasons.len() };
        let (reasons, otherwise) = self.reasons.split_at(told);
        let mut out = match reasons {
            [] => format!("  => {word}\n"),
            reasons => format!("  => {word}: {}\n", reasons.join("; ")),
        };
        if hypothetical && (self.boot.is_some() || !self.answers.is_empty() || !otherwise.is_empty()) {
            let _infallible = writeln!(out, "     otherwise it would be answered: {}", otherwise.join("; "));
        }
        if let Some(boot) = &self.boot {
            let what =
                boot.url.as_deref().map_or_else(|| "no boot file".into(), |url| format!("boots {url}"));
            let _infallible = writeln!(out, "     {what}: {}", boot.reason);
        }
        for answer in &self.answers {
            let _infallible = writeln!(out, "     to {}:", answer.to);
            let _infallible = writeln!(out, "{}", indented(&answer.says.to_string(), 5));
        }
        out
    }
}

// === impl Boot ===

impl Boot {
    fn of(decision: Decision) -> Self {
        match decision {
            Decision::NotAsked => {
                Self { url: None, reason: "it asks for none (option 59 in option 6)".to_owned() }
            }
            Decision::Offer(offer) => {
                let name = describe::architecture(offer.number).unwrap_or("unknown");
                let reason =
                    format!("a boot file for architecture {} ({name}), {}", offer.number, offer.sign);
                Self { url: Some(offer.url), reason }
            }
            Decision::Refuse(refusal) => Self { url: None, reason: refusal.to_string() },
        }
    }
}

/// Text, each line behind so many spaces.
pub(super) fn indented(text: &str, by: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("{:by$}{line}", "")).collect();
    lines.join("\n")
}
