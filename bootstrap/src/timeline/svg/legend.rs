//! What the picture's patterns and marks mean: those that are in it, and no others.

use super::layout::text_width;
use super::paint::{Anchor, Canvas, Paint, Text};
use super::{BAR, Picture, SIZE, TRACK};
use crate::timeline::states::{Mark, State};

const SWATCH: f64 = 20.0;
const ROW: f64 = 18.0;
const BETWEEN: f64 = 18.0;

/// What is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    State(State),
    Mark(Mark),
    Fault,
    Undone,
}

const STATES: [(State, &str); 6] = [
    (State::Ready, "node Ready"),
    (State::NotReady, "node NotReady"),
    (State::Off, "machine off"),
    (State::Frozen, "machine frozen"),
    (State::NoCarrier, "a cable has no carrier"),
    (State::NoRoute, "a route is missing"),
];
const MARKS: [(Mark, &str); 6] = [
    (Mark::Scheduled, "pod scheduled"),
    (Mark::Ready, "pod Ready"),
    (Mark::NotReady, "pod not Ready"),
    (Mark::Left, "pod evicted, deleted or failed"),
    (Mark::Took, "service's address taken"),
    (Mark::Dropped, "service's address dropped"),
];

/// What there is to explain.
pub(super) fn entries(picture: &Picture) -> Vec<(Symbol, &'static str)> {
    let has_state = |state: State| {
        let spans = picture
            .lanes
            .iter()
            .flat_map(|lane| lane.node.iter().chain(&lane.power).chain(&lane.cables).chain(&lane.routes));
        spans.into_iter().any(|span| span.what == state && picture.is_seen(span.from, span.to))
    };
    let has_mark = |mark: Mark| {
        let marks = picture.lanes.iter().flat_map(|lane| &lane.marks);
        marks.into_iter().any(|(at, kind)| *kind == mark && picture.is_seen(*at, Some(*at)))
    };
    let mut entries = Vec::new();
    if !picture.faults.is_empty() {
        entries.push((Symbol::Fault, "fault, and the machines that it was done to"));
    }
    if picture.faults.iter().any(|fault| fault.to.is_some_and(|end| end <= picture.to)) {
        entries.push((Symbol::Undone, "fault undone"));
    }
    let states = STATES.into_iter().filter(|(state, _)| has_state(*state));
    entries.extend(states.map(|(state, text)| (Symbol::State(state), text)));
    let marks = MARKS.into_iter().filter(|(mark, _)| has_mark(*mark));
    entries.extend(marks.map(|(mark, text)| (Symbol::Mark(mark), text)));
    entries
}

/// Draws them from `top` on, in as many rows as they need; gives the lower end.
pub(super) fn draw(
    canvas: &mut Canvas,
    entries: &[(Symbol, &str)],
    (left, right): (f64, f64),
    top: f64,
) -> f64 {
    let (mut x, mut y) = (left, top);
    for (symbol, text) in entries {
        let width = SWATCH + 5.0 + text_width(text, SIZE) + BETWEEN;
        if x > left && x + width - BETWEEN > right {
            (x, y) = (left, y + ROW);
        }
        draw_symbol(canvas, *symbol, (x, y + BAR / 2.0));
        let form = Text { size: SIZE, anchor: Anchor::Start, bold: false, grey: false, halo: false };
        canvas.text((x + SWATCH + 5.0, y + BAR - 3.0), text, form);
        x += width;
    }
    if entries.is_empty() { top - 10.0 } else { y + BAR }
}

fn draw_symbol(canvas: &mut Canvas, symbol: Symbol, (x, middle): (f64, f64)) {
    match symbol {
        Symbol::State(state @ (State::Ready | State::NotReady)) => {
            canvas.rect((x, middle - 5.0), (SWATCH, 10.0), &Paint::State(state));
        }
        Symbol::State(state) => {
            canvas.rect((x, middle - TRACK / 2.0), (SWATCH, TRACK), &Paint::State(state));
        }
        Symbol::Mark(mark) => canvas.mark((x + SWATCH / 2.0, middle), mark),
        Symbol::Fault => {
            canvas.rect((x + 2.0, middle - 6.0), (SWATCH - 2.0, 12.0), &Paint::Band);
            canvas.line((x + 2.0, middle - 7.0), (x + 2.0, middle + 7.0), &Paint::FaultLine);
        }
        Symbol::Undone => {
            let x = x + SWATCH / 2.0;
            canvas.line((x, middle - 9.0), (x, middle + 9.0), &Paint::UndoneLine);
        }
    }
}
