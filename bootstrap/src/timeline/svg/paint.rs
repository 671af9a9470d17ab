//! The elements of the picture. Numbers have one decimal, so that the same picture is the same text everywhere.

use std::fmt::Write as _;

use crate::timeline::states::{Mark, State};

/// How something is filled or drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    State(State),
    /// The lanes of a fault, while it lasts.
    Band,
    FaultLine,
    UndoneLine,
    Hairline,
    Grid,
    Dotted,
    Axis,
    /// What is to be read on it is kept apart from what is below.
    Paper,
}

/// Where a text is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) size: f64,
    pub(super) anchor: Anchor,
    pub(super) bold: bool,
    pub(super) grey: bool,
    /// Whether what is behind it is kept away from its letters.
    pub(super) halo: bool,
}

/// Elements, in the order in which they are painted.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    body: String,
}

/// What the spans are filled with: each is another in black as well.
const PATTERNS: &str = r##"<defs>
<pattern id="notready" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" fill="#fff"/><rect width="2.2" height="5" fill="#b3362b"/></pattern>
<pattern id="frozen" width="4" height="4" patternUnits="userSpaceOnUse"><rect width="4" height="4" fill="#fff"/><rect width="2" height="4" fill="#222"/></pattern>
<pattern id="noroute" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><rect width="5" height="5" fill="#fff"/><rect width="2.6" height="5" fill="#c46a00"/></pattern>
</defs>
"##;

// === impl Paint ===

impl Paint {
    fn attributes(self) -> &'static str {
        match self {
            Self::State(State::Ready) => r##"fill="#cfe8d5" stroke="#5f8f6b" stroke-width="0.6""##,
            Self::State(State::NotReady) => r##"fill="url(#notready)" stroke="#b3362b" stroke-width="0.6""##,
            Self::State(State::Off) => r##"fill="#222" stroke="#222" stroke-width="0.4""##,
            Self::State(State::Frozen) => r##"fill="url(#frozen)" stroke="#222" stroke-width="0.4""##,
            Self::State(State::NoCarrier) => r##"fill="#2f6db3" stroke="#2f6db3" stroke-width="0.4""##,
            Self::State(State::NoRoute) => r##"fill="url(#noroute)" stroke="#c46a00" stroke-width="0.4""##,
            Self::Band => r##"fill="#000" fill-opacity="0.07""##,
            Self::FaultLine => r##"stroke="#000" stroke-width="1.2""##,
            Self::UndoneLine => r##"stroke="#000" stroke-width="0.9" stroke-dasharray="4 3""##,
            Self::Hairline => r##"stroke="#bbb" stroke-width="0.5""##,
            Self::Grid => r##"stroke="#ddd" stroke-width="0.5""##,
            Self::Dotted => r##"stroke="#bbb" stroke-width="0.5" stroke-dasharray="1 2""##,
            Self::Paper => r##"fill="#fff" fill-opacity="0.88""##,
            Self::Axis => r##"stroke="#000" stroke-width="0.8""##,
        }
    }
}

// === impl Canvas ===

impl Canvas {
    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), paint: &Paint) {
        let paint = paint.attributes();
        self.add(&format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" {paint}/>"#
        ));
    }

    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), paint: &Paint) {
        let paint = paint.attributes();
        self.add(&format!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" {paint}/>"#));
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), text: &str, form: Text) {
        let Text { size, anchor, bold, grey, halo } = form;
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let weight = if bold { r#" font-weight="bold""# } else { "" };
        let fill = if grey { r##" fill="#666""## } else { "" };
        let halo = if halo {
            r##" stroke="#fff" stroke-width="2.6" stroke-linejoin="round" paint-order="stroke""##
        } else {
            ""
        };
        let text = escaped(text);
        self.add(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}"{anchor}{weight}{fill}{halo}>{text}</text>"#
        ));
    }

    pub(super) fn mark(&mut self, (x, y): (f64, f64), mark: Mark) {
        let path = |points: &str, fill: &str| {
            format!(
                r##"<path transform="translate({x:.1} {y:.1})" d="{points}" fill="{fill}" stroke="#000" stroke-width="0.9"/>"##
            )
        };
        let circle = |fill: &str| {
            format!(
                r##"<circle cx="{x:.1}" cy="{y:.1}" r="3.2" fill="{fill}" stroke="#000" stroke-width="0.9"/>"##
            )
        };
        let element = match mark {
            Mark::Scheduled => path("M-3.6 3 L3.6 3 L0 -3.6 Z", "#fff"),
            Mark::Ready => circle("#000"),
            Mark::NotReady => circle("#fff"),
            Mark::Left => path("M-3.6 -3 L3.6 -3 L0 3.6 Z", "#000"),
            Mark::Took => path("M0 -4 L4 0 L0 4 L-4 0 Z", "#000"),
            Mark::Dropped => path("M0 -4 L4 0 L0 4 L-4 0 Z", "#fff"),
        };
        self.add(&element);
    }

    fn add(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    pub(super) fn finish(self, width: f64, height: f64) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            out,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif" fill="#000">
<rect width="{width:.0}" height="{height:.0}" fill="#fff"/>"##
        );
        out.push_str(PATTERNS);
        out.push_str(&self.body);
        out.push_str("</svg>\n");
        out
    }
}

/// Text that is only text. Letters that XML has no place for are left out.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\u{fffe}' | '\u{ffff}' => {}
            letter if letter.is_control() => {}
            letter => out.push(letter),
        }
    }
    out
}
