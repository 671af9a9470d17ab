//! Samples, what they come to, and how that is shown.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The one that everybody else is compared with.
pub(crate) const OURS: &str = "meshboot";
/// A server that does no more than it must, to show what is possible.
pub(crate) const LEAST: &str = "(recv and send)";
/// Who is shown, and is none of the rivals that the targets name.
const BESIDE: [&str; 2] = ["atftpd", LEAST];

/// Which of two figures is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// The higher one.
    Higher,
    /// The lower one.
    Lower,
}

/// What is wanted of a figure of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// So many times as good as the best rival.
    Times(f64),
    /// Below this.
    Below(f64),
    /// Nothing: it is told for its own sake.
    Told,
}

/// One thing that was measured, once in every round and of every subject.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    better: Better,
    target: Target,
    /// By subject, the subjects in the order in which they first came.
    samples: Vec<(String, Vec<f64>)>,
}

/// All rows, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// What samples come to.
#[derive(Debug, Clone, Copy)]
struct Summary {
    median: f64,
    min: f64,
    max: f64,
}

// === impl Report ===

impl Report {
    /// Enters one sample.
    pub(crate) fn enter(
        &mut self,
        (name, unit, better, target): (&str, &'static str, Better, Target),
        subject: &str,
        sample: f64,
    ) {
        let at = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), unit, better, target, samples: Vec::new() });
            self.rows.len() - 1
        });
        let samples = &mut self.rows[at].samples;
        match samples.iter_mut().find(|(known, _)| known == subject) {
            Some((_, samples)) => samples.push(sample),
            None => samples.push((subject.to_owned(), vec![sample])),
        }
    }

    /// Remembers something that a reader of the figures has to know; twice is once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<54} {:<22} {:>10} {:>10} {:>10}  {:>7}  {}\n",
            "what", "who", "median", "min", "max", "ratio", "wanted"
        );
        for row in &self.rows {
            for (at, (subject, samples)) in row.samples.iter().enumerate() {
                let Summary { median, min, max } = summary(samples);
                let what = if at == 0 { format!("{} ({})", row.name, row.unit) } else { String::new() };
                let ours = subject == OURS;
                let ratio = row.ratio().filter(|_| ours).map(|ratio| format!("{ratio:.2}"));
                let wanted = if ours { row.verdict() } else { String::new() };
                let line = format!(
                    "{what:<54} {subject:<22} {:>10} {:>10} {:>10}  {:>7}  {wanted}",
                    figure(median),
                    figure(min),
                    figure(max),
                    ratio.unwrap_or_default(),
                );
                text += line.trim_end();
                text.push('\n');
            }
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        text
    }

    /// Everything, every sample too.
    pub(crate) fn json(&self, machine: &Value, rounds: usize) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({ "machine": machine, "rounds": rounds, "rows": rows, "notes": self.notes })
    }
}

// === impl Row ===

impl Row {
    fn of(&self, subject: &str) -> Option<&[f64]> {
        self.samples.iter().find(|(known, _)| known == subject).map(|(_, samples)| samples.as_slice())
    }

    /// The median over the rounds of how many times as good ours was as the best rival of the same round. A neighbour
    /// that takes the processor for a while slows all of a round, and not one side of the comparison.
    fn ratio(&self) -> Option<f64> {
        let ours = self.of(OURS)?;
        let rivals: Vec<&[f64]> = self.rivals().map(|(_, samples)| samples).collect();
        let ratios: Vec<f64> = ours
            .iter()
            .enumerate()
            .filter_map(|(round, ours)| {
                let of_round = rivals.iter().filter_map(|samples| samples.get(round).copied());
                match self.better {
                    Better::Higher => of_round.reduce(f64::max).map(|best| ours / best),
                    Better::Lower => of_round.reduce(f64::min).map(|best| best / ours),
                }
            })
            .filter(|ratio| ratio.is_finite())
            .collect();
        (!ratios.is_empty()).then(|| summary(&ratios).median)
    }

    fn rivals(&self) -> impl Iterator<Item = (&str, &[f64])> {
        // Ours in another mode is no rival.
        let is_rival = |subject: &str| !subject.starts_with(OURS) && !BESIDE.contains(&subject);
        let rivals = self.samples.iter().filter(move |(subject, _)| is_rival(subject));
        rivals.map(|(subject, samples)| (subject.as_str(), samples.as_slice()))
    }

    fn verdict(&self) -> String {
        let median = self.of(OURS).map(|samples| summary(samples).median);
        let met = self.met().map_or("", |met| if met { ": met" } else { ": NOT met" });
        match (self.target, median) {
            (Target::Times(times), Some(_)) => format!("at least {times} times{met}"),
            (Target::Below(limit), Some(_)) => format!("below {limit} {}{met}", self.unit),
            (Target::Told, _) | (_, None) => String::new(),
        }
    }

    fn met(&self) -> Option<bool> {
        match self.target {
            Target::Times(times) => self.ratio().map(|ratio| ratio >= times),
            Target::Below(limit) => self.of(OURS).map(|samples| summary(samples).median < limit),
            Target::Told => None,
        }
    }

    fn json(&self) -> Value {
        let subjects: BTreeMap<&str, Value> = self
            .samples
            .iter()
            .map(|(subject, samples)| {
                let Summary { median, min, max } = summary(samples);
                let figures = json!({ "median": median, "min": min, "max": max, "samples": samples });
                (subject.as_str(), figures)
            })
            .collect();
        let target = match self.target {
            Target::Times(times) => json!({ "times": times }),
            Target::Below(limit) => json!({ "below": limit }),
            Target::Told => Value::Null,
        };
        json!({
            "name": self.name,
            "unit": self.unit,
            "better": if self.better == Better::Higher { "higher" } else { "lower" },
            "subjects": subjects,
            "ratio": self.ratio(),
            "target": target,
            "met": self.met(),
        })
    }
}

fn summary(samples: &[f64]) -> Summary {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    let at = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
    Summary { median: f64::midpoint(at(low), at(high)), min: at(0), max: at(sorted.len().saturating_sub(1)) }
}

/// Three digits that say something.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests;
