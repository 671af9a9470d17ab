//! Where things go: times on the axis, its ticks, and labels that do not lie on each other.

/// Where times are on the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) left: f64,
    pub(super) right: f64,
}

/// A label with a line down from its time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Label {
    /// Where its line is.
    pub(super) x: f64,
    /// Where its text begins.
    pub(super) left: f64,
    /// Which row it is in; 0 is the lowest.
    pub(super) row: u16,
    pub(super) text: String,
}

/// The ticks of the axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticks {
    /// What the numbers count.
    pub(super) unit: &'static str,
    /// Each time with its text.
    pub(super) marks: Vec<(u64, String)>,
}

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// Distances of ticks that people count in.
const STEPS: [u64; 26] = [
    SECOND / 1000,
    SECOND / 500,
    SECOND / 200,
    SECOND / 100,
    SECOND / 50,
    SECOND / 20,
    SECOND / 10,
    SECOND / 5,
    SECOND / 2,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    6 * HOUR,
    12 * HOUR,
    24 * HOUR,
];
/// Ticks are no nearer to each other, in pixels.
const NEAREST: f64 = 64.0;

// === impl Scale ===

impl Scale {
    pub(super) fn x(&self, at: u64) -> f64 {
        let at = at.clamp(self.from, self.to);
        let part = (at - self.from) as f64 / (self.to - self.from).max(1) as f64;
        self.left + part * (self.right - self.left)
    }
}

// === impl Ticks ===

impl Ticks {
    /// Ticks counted from `origin`, or times of the day.
    pub(super) fn new(scale: &Scale, origin: Option<u64>) -> Self {
        let length = scale.to - scale.from;
        let room = ((scale.right - scale.left) / NEAREST).max(1.0);
        let is_wide = |step: &u64| length as f64 / *step as f64 <= room;
        let days = || 24 * HOUR * (length / (24 * HOUR) / 8 + 1);
        let step = STEPS.into_iter().find(is_wide).unwrap_or_else(days);
        let zero = origin.unwrap_or(scale.from / step * step);
        // The first one that is not before the beginning.
        let first = match zero.checked_sub(scale.from) {
            Some(after) => zero - after / step * step,
            None => zero.saturating_add((scale.from - zero).div_ceil(step).saturating_mul(step)),
        };
        let (unit, one) = match step {
            HOUR.. => ("hours", HOUR),
            MINUTE.. => ("minutes", MINUTE),
            SECOND.. => ("seconds", SECOND),
            _ => ("milliseconds", SECOND / 1000),
        };
        let text = |at: u64| match origin {
            None => time_of_day(at, step),
            Some(origin) if at < origin => format!("\u{2212}{}", (origin - at) / one),
            Some(origin) => ((at - origin) / one).to_string(),
        };
        let times = (0..).map(|number| first.saturating_add(step.saturating_mul(number)));
        let times = times.take_while(|at| *at <= scale.to).take(200);
        Self { unit, marks: times.map(|at| (at, text(at))).collect() }
    }
}

fn time_of_day(at: u64, step: u64) -> String {
    let (hours, minutes, seconds) = (at / HOUR % 24, at / MINUTE % 60, at / SECOND % 60);
    match step {
        MINUTE.. => format!("{hours:02}:{minutes:02}"),
        SECOND.. => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{minutes:02}:{seconds:02}.{:03}", at / 1000 % 1000),
    }
}

/// A time span in a few letters: `170 ms`, `40.2 s`, `3 min 10 s`.
pub(super) fn span(micros: u64) -> String {
    match micros {
        0..SECOND => format!("{} ms", micros / 1000),
        SECOND..MINUTE => format!("{}.{} s", micros / SECOND, micros % SECOND / (SECOND / 10)),
        _ => format!("{} min {} s", micros / MINUTE, micros % MINUTE / SECOND),
    }
}

/// How wide a text is in whatever sans-serif there is: a little more than in most.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let wide = |letter: char| match letter {
        'i' | 'j' | 'l' | '|' | '\'' | '.' | ',' | ':' | ';' | '!' => 0.32,
        'f' | 't' | 'r' | ' ' | '-' | '(' | ')' | '[' | ']' | '/' | 'I' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.98,
        'A'..='Z' => 0.74,
        _ if letter.is_ascii() => 0.63,
        // Nobody knows; most letters of the world are no wider.
        _ => 1.0,
    };
    text.chars().map(wide).sum::<f64>() * size
}

/// As much of a text as there is room for.
pub(super) fn shorten(text: &str, size: f64, room: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        short.push(letter);
        if text_width(&short, size) + size > room {
            short.pop();
            break;
        }
    }
    format!("{}\u{2026}", short.trim_end())
}

/// Puts labels into rows: none lies on another, and no label's line goes through one that is right of it.
pub(super) fn rows(labels: Vec<(f64, String)>, size: f64, right: f64) -> Vec<Label> {
    let mut placed: Vec<(Label, f64)> = Vec::new();
    // From the last to the first: a label reaches over those that come after it, and must be above their lines.
    let mut waiting = labels;
    waiting.sort_by(|one, other| one.0.total_cmp(&other.0));
    while let Some((x, text)) = waiting.pop() {
        let width = text_width(&text, size) + 8.0;
        let left = x.min(right - width);
        let end = left + width;
        let mut row = 0;
        for (other, other_end) in &placed {
            let is_over = left < *other_end && other.left < end;
            let is_crossed = (left..=end).contains(&other.x);
            if is_over || is_crossed {
                row = row.max(other.row + 1);
            }
        }
        placed.push((Label { x, left, row, text }, end));
    }
    placed.into_iter().map(|(label, _)| label).rev().collect()
}
