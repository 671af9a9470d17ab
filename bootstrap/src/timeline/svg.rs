//! A timeline as a picture for papers: a lane for each machine, time to the right, faults across all lanes.
//!
//! The same timeline gives the same octets. There is no script, no style sheet and no font of its own; whatever a colour
//! tells, a pattern or a place tells as well, so that it can be printed in black.

use jiff::Timestamp;

use self::layout::{Label, Scale, Ticks, rows, shorten, text_width};
use self::paint::{Anchor, Canvas, Paint, Text};
use super::Timeline;
use super::journal::Fault;
use super::states::{Lane, Mark, Span, State, faults, lanes};

mod layout;
mod legend;
mod paint;

/// Letters of labels, in pixels.
const SIZE: f64 = 11.0;
/// Letters of what tells a lane's rows apart.
const SMALL: f64 = 8.5;
const MARGIN: f64 = 12.0;
/// Between a lane's name and its bars.
const GAP: f64 = 10.0;
const FLAG_ROW: f64 = 15.0;
/// Where it is said which faults are over.
const OVER_ROW: f64 = 12.0;
const MARK_ROW: f64 = 13.0;
const BAR: f64 = 14.0;
const TRACK: f64 = 5.0;
const TRACK_ROW: f64 = 9.5;
const LANE_GAP: f64 = 9.0;
/// How much room a mark has, and the number of those that are one with it.
const MARK_WIDTH: f64 = 9.0;
const COUNT_WIDTH: f64 = 6.0;
/// The longest label of a fault, as a part of the whole width.
const LONGEST: f64 = 0.6;
const SECOND: u64 = 1_000_000;

/// What is drawn, and how wide.
#[derive(Debug, Clone)]
pub struct Options {
    /// From when on, in microseconds since 1970; by default from a little before the first fault.
    pub from: Option<u64>,
    /// Until when; by default until a little after the last thing that happened.
    pub to: Option<u64>,
    /// The width in pixels.
    pub width: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { from: None, to: None, width: 960 }
    }
}

/// The picture.
#[must_use]
pub fn svg(timeline: &Timeline, options: &Options) -> String {
    let faults = faults(timeline);
    let (from, to) = window(timeline, &faults, options);
    let visible =
        faults.into_iter().filter(|fault| fault.from <= to && fault.to.is_none_or(|end| end >= from));
    let lanes = lanes(timeline).into_iter().filter(|lane| lane.deleted.is_none_or(|at| at >= from));
    Picture::new(lanes.collect(), visible.collect(), (from, to), options).draw()
}

/// What is shown of all that is known.
fn window(timeline: &Timeline, faults: &[Span<Fault>], options: &Options) -> (u64, u64) {
    let last = timeline.entries.iter().map(super::entry::Entry::latest).max();
    let last = last.unwrap_or_default();
    let first = faults.first().map(|fault| fault.from);
    let first = first.or_else(|| timeline.entries.first().map(|entry| entry.at)).unwrap_or_default();
    let margin = (last.saturating_sub(first) / 16).max(SECOND);
    let from = options.from.unwrap_or_else(|| first.saturating_sub(margin));
    let to = options.to.unwrap_or_else(|| last.saturating_add(margin / 2));
    (from, to.max(from.saturating_add(SECOND)))
}

/// Everything that is drawn, with its place.
struct Picture {
    lanes: Vec<Lane>,
    faults: Vec<Span<Fault>>,
    from: u64,
    to: u64,
    width: f64,
    scale: Scale,
    rows: Rows,
}

/// Which rows a lane has, and where: all lanes have the same.
#[derive(Debug, Clone, Copy)]
struct Rows {
    marks: bool,
    power: bool,
    cables: bool,
    routes: bool,
}

// === impl Rows ===

impl Rows {
    fn bar(self) -> f64 {
        if self.marks { MARK_ROW } else { 0.0 }
    }

    /// The thin rows, by name, with their places below the lane's top.
    fn tracks(self) -> Vec<(&'static str, f64)> {
        let there = [(self.power, "power"), (self.cables, "cables"), (self.routes, "routes")];
        let there = there.into_iter().filter_map(|(there, name)| there.then_some(name));
        let mut top = self.bar() + BAR + 3.0;
        let mut tracks = Vec::new();
        for name in there {
            tracks.push((name, top));
            top += TRACK_ROW;
        }
        tracks
    }

    fn height(self) -> f64 {
        let tracks = self.tracks().last().map_or(0.0, |(_, top)| top + TRACK - self.bar() - BAR);
        self.bar() + BAR + tracks
    }

    fn pitch(self) -> f64 {
        self.height() + 2.0 * LANE_GAP
    }
}

// === impl Picture ===

impl Picture {
    fn new(lanes: Vec<Lane>, faults: Vec<Span<Fault>>, (from, to): (u64, u64), options: &Options) -> Self {
        let is_seen = |span: &Span<State>| span.from <= to && span.to.is_none_or(|end| end >= from);
        let has =
            |track: fn(&Lane) -> &[Span<State>]| lanes.iter().any(|lane| track(lane).iter().any(is_seen));
        let rows = Rows {
            marks: lanes.iter().any(|lane| lane.marks.iter().any(|(at, _)| (from..=to).contains(at))),
            power: has(|lane| &lane.power),
            cables: has(|lane| &lane.cables),
            routes: has(|lane| &lane.routes),
        };
        let names = lanes.iter().map(|lane| text_width(&lane.machine, SIZE) * 1.08);
        let tracks = rows.tracks().into_iter().map(|(name, _)| text_width(name, SMALL));
        let gutter = names.chain(tracks).fold(24.0, f64::max);
        let width = f64::from(options.width.max(320));
        let (left, right) = (MARGIN + gutter + GAP, width - MARGIN);
        let scale = Scale { from, to, left, right: right.max(left + 100.0) };
        Self { lanes, faults, from, to, width, scale, rows }
    }

    fn draw(&self) -> String {
        let flags = self.flags();
        let levels = flags.iter().map(|flag| flag.row + 1).max().unwrap_or_default();
        let flags_end = MARGIN + f64::from(levels) * FLAG_ROW;
        let is_over = self.faults.iter().any(|fault| fault.to.is_some_and(|end| end <= self.to));
        let top = flags_end + if is_over { OVER_ROW } else { 4.0 };
        let count = u16::try_from(self.lanes.len()).unwrap_or(u16::MAX);
        let bottom = top + f64::from(count.max(1)) * self.rows.pitch();
        let mut canvas = Canvas::default();
        self.draw_bands(&mut canvas, top);
        self.draw_axis(&mut canvas, top, bottom);
        for (number, lane) in (0_u16..).zip(&self.lanes) {
            self.draw_lane(&mut canvas, lane, top + f64::from(number) * self.rows.pitch());
        }
        self.draw_flags(&mut canvas, &flags, (flags_end, top, bottom));
        let legend = legend::entries(self);
        let height = legend::draw(&mut canvas, &legend, (self.scale.left, self.scale.right), bottom + 44.0);
        canvas.finish(self.width, height + MARGIN)
    }

    /// The faults' labels, above the lanes.
    fn flags(&self) -> Vec<Label> {
        let longest = (self.scale.right - self.scale.left) * LONGEST;
        let labels = self.faults.iter().filter(|fault| fault.from >= self.from).map(|fault| {
            let whole = format!("{} {}", fault.what.id, fault.what.text);
            (self.scale.x(fault.from), shorten(&whole, SIZE, longest))
        });
        rows(labels.collect(), SIZE, self.scale.right)
    }

    /// A fault shades the lanes of the machines that it was done to, as long as it lasts.
    fn draw_bands(&self, canvas: &mut Canvas, top: f64) {
        for fault in &self.faults {
            let (left, right) = self.extent(fault);
            for (number, lane) in (0_u16..).zip(&self.lanes) {
                if fault.what.machines.contains(&lane.machine) {
                    let y = top + f64::from(number) * self.rows.pitch();
                    canvas.rect((left, y), (right - left, self.rows.pitch()), &Paint::Band);
                }
            }
        }
    }

    fn draw_flags(&self, canvas: &mut Canvas, flags: &[Label], (base, top, bottom): (f64, f64, f64)) {
        let y = |flag: &Label| base - f64::from(flag.row) * FLAG_ROW;
        for flag in flags {
            canvas.line((flag.x, y(flag) - 9.0), (flag.x, bottom), &Paint::FaultLine);
        }
        for fault in &self.faults {
            if let Some(end) = fault.to.filter(|end| *end <= self.to) {
                let x = self.scale.x(end);
                canvas.line((x, top), (x, bottom), &Paint::UndoneLine);
                let text = Text { size: SMALL, anchor: Anchor::Middle, bold: false, grey: false, halo: true };
                canvas.text((x, top - 3.0), &format!("{} over", fault.what.id), text);
            }
        }
        // Last, so that no line goes through a text.
        for flag in flags {
            let text = Text { size: SIZE, anchor: Anchor::Start, bold: true, grey: false, halo: true };
            canvas.text((flag.left + 3.0, y(flag) - 1.0), &flag.text, text);
        }
    }

    fn draw_lane(&self, canvas: &mut Canvas, lane: &Lane, top: f64) {
        let (left, right) = (self.scale.left, self.scale.right);
        canvas.line((MARGIN, top), (right, top), &Paint::Hairline);
        let y = top + LANE_GAP;
        let name = Text { size: SIZE, anchor: Anchor::End, bold: true, grey: false, halo: false };
        let bar = y + self.rows.bar();
        canvas.text((left - GAP, bar + BAR - 3.5), &lane.machine, name);
        self.draw_spans(canvas, &lane.node, (bar, BAR));
        let row = Text { size: SMALL, anchor: Anchor::End, bold: false, grey: true, halo: false };
        for (name, at) in self.rows.tracks() {
            let spans = match name {
                "power" => &lane.power,
                "cables" => &lane.cables,
                _ => &lane.routes,
            };
            let middle = y + at + TRACK / 2.0;
            canvas.text((left - GAP, middle + 3.0), name, row);
            canvas.line((left, middle), (right, middle), &Paint::Dotted);
            self.draw_spans(canvas, spans, (y + at, TRACK));
        }
        self.draw_delays(canvas, lane, bar);
        self.draw_marks(canvas, lane, y + MARK_ROW / 2.0 - 1.0);
    }

    fn draw_spans(&self, canvas: &mut Canvas, spans: &[Span<State>], (y, height): (f64, f64)) {
        for span in spans.iter().filter(|span| self.is_seen(span.from, span.to)) {
            let (left, right) = self.extent(span);
            // What lasted a moment is seen all the same.
            canvas.rect((left, y), ((right - left).max(1.0), height), &Paint::State(span.what));
        }
    }

    /// How long after a fault a node was called not Ready, and Ready again: in its bar, where there is room.
    fn draw_delays(&self, canvas: &mut Canvas, lane: &Lane, bar: f64) {
        let turns = self.faults.iter().flat_map(|fault| std::iter::once(fault.from).chain(fault.to));
        let turns: Vec<u64> = turns.collect();
        for span in lane.node.iter().filter(|span| span.from >= self.from && span.from <= self.to) {
            let Some(turn) = turns.iter().filter(|turn| **turn <= span.from).max() else { continue };
            let word = if span.what == State::Ready { "Ready" } else { "NotReady" };
            let text = format!("{word} +{}", layout::span(span.from - turn));
            let (left, right) = self.extent(span);
            let width = text_width(&text, SMALL);
            if width + 6.0 <= right - left {
                let form = Text { size: SMALL, anchor: Anchor::Start, bold: false, grey: false, halo: false };
                canvas.rect((left + 2.0, bar + 2.0), (width + 2.0, BAR - 4.0), &Paint::Paper);
                canvas.text((left + 4.0, bar + BAR - 4.0), &text, form);
            }
        }
    }

    fn draw_marks(&self, canvas: &mut Canvas, lane: &Lane, y: f64) {
        let mut marks: Vec<(u64, Mark)> = lane.marks.clone();
        marks.retain(|(at, _)| (self.from..=self.to).contains(at));
        marks.sort_unstable();
        let mut clusters: Vec<(f64, Mark, u32)> = Vec::new();
        for (at, mark) in marks {
            let x = self.scale.x(at);
            let is_near =
                |(there, kind, _): &&mut (f64, Mark, u32)| *kind == mark && x - *there < 2.0 * MARK_WIDTH;
            match clusters.iter_mut().rev().find(is_near) {
                Some((_, _, count)) => *count += 1,
                None => clusters.push((x, mark, 1)),
            }
        }
        let mut end = f64::MIN;
        for (x, mark, count) in clusters {
            // Of two that would be in one place the later one gives way.
            let x = x.max(end + MARK_WIDTH);
            canvas.mark((x, y), mark);
            end = x;
            if count > 1 {
                let form = Text { size: 7.5, anchor: Anchor::Start, bold: false, grey: false, halo: false };
                canvas.text((x + 5.0, y + 3.0), &count.to_string(), form);
                end += COUNT_WIDTH;
            }
        }
    }

    fn draw_axis(&self, canvas: &mut Canvas, top: f64, bottom: f64) {
        let origin = self.faults.iter().find(|fault| fault.from >= self.from);
        let ticks = Ticks::new(&self.scale, origin.map(|fault| fault.from));
        let form = Text { size: SIZE, anchor: Anchor::Middle, bold: false, grey: false, halo: false };
        for (at, text) in &ticks.marks {
            let x = self.scale.x(*at);
            canvas.line((x, top), (x, bottom), &Paint::Grid);
            canvas.line((x, bottom), (x, bottom + 4.0), &Paint::Axis);
            canvas.text((x, bottom + 16.0), text, form);
        }
        canvas.line((self.scale.left, bottom), (self.scale.right, bottom), &Paint::Axis);
        let title = match origin {
            Some(fault) => format!("{} after {} ({})", ticks.unit, fault.what.id, moment(fault.from)),
            None => format!("time of day, UTC, from {}", moment(self.from)),
        };
        let middle = f64::midpoint(self.scale.left, self.scale.right);
        canvas.text((middle, bottom + 31.0), &title, form);
    }

    fn is_seen(&self, from: u64, to: Option<u64>) -> bool {
        from <= self.to && to.is_none_or(|end| end >= self.from)
    }

    /// Where a span begins and ends, as far as it is seen.
    fn extent<T>(&self, span: &Span<T>) -> (f64, f64) {
        let (from, to) = (span.from.max(self.from), span.to.unwrap_or(self.to).min(self.to));
        (self.scale.x(from), self.scale.x(to))
    }
}

fn moment(at: u64) -> String {
    let time = i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok());
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests;
