//! From YAML to a tree that knows where each of its parts stands.
//!
//! Of YAML this is what files for Kubernetes are written in: one document of mappings, lists and scalars. Aliases and
//! tags are refused, and so is a key that stands twice. JSON is YAML, too.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::mistake::{Mistake, Place};

/// Far more than a mesh of as many machines as there may be takes.
const MAX_OCTETS: usize = 4 << 20;

/// A part of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) place: Place,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a part of the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word, a number, a text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order in which it stands there.
    Map(Vec<(Key, Node)>),
}

/// A scalar, by the core schema of YAML 1.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, as it stands there.
    Whole(String),
    /// Another number, as it stands there.
    Number(String),
    /// A text.
    Text(String),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Where it begins.
    pub(super) place: Place,
    /// The key.
    pub(super) text: String,
}

/// Reads a file, as far as it can be read, and what is wrong with it as YAML.
pub(super) fn read(text: &str) -> (Option<Node>, Vec<Mistake>) {
    let start = Place::Line { line: 1, column: 1 };
    if text.len() > MAX_OCTETS {
        let problem = format!("it has more than {} MiB, which nobody writes by hand", MAX_OCTETS >> 20);
        return (None, vec![Mistake::at(start, problem)]);
    }
    let mut options = granit_parser::options! { emit_unresolved_aliases: true };
    options.set_emit_comments(false);
    let mut builder =
        Builder { events: Parser::new_from_str_with_options(text, options), mistakes: Vec::new() };
    let node = match builder.document() {
        Ok(node) => node,
        Err(error) => {
            builder
                .mistakes
                .push(Mistake::at(place(error.marker()), format!("it is no YAML: {}", error.info())));
            None
        }
    };
    (node, builder.mistakes)
}

/// What a plain scalar means.
pub(super) fn plain(text: &str) -> Scalar {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => Scalar::Number(text.to_owned()),
        _ if digits(unsigned) => Scalar::Whole(text.to_owned()),
        _ if is_based(text) || matches!(unsigned, ".inf" | ".Inf" | ".INF") || is_decimal(unsigned) => {
            Scalar::Number(text.to_owned())
        }
        _ => Scalar::Text(text.to_owned()),
    }
}

/// `0x1f` and `0o17`: numbers in YAML, and nothing that a mesh has.
fn is_based(text: &str) -> bool {
    let all = |rest: &str, radix: u32| !rest.is_empty() && rest.chars().all(|letter| letter.is_digit(radix));
    text.strip_prefix("0x").is_some_and(|rest| all(rest, 16))
        || text.strip_prefix("0o").is_some_and(|rest| all(rest, 8))
}

/// `1.5`, `.5`, `1e3`.
fn is_decimal(unsigned: &str) -> bool {
    let begins = unsigned.trim_start_matches('.').starts_with(|letter: char| letter.is_ascii_digit());
    let allowed = |octet: u8| octet.is_ascii_digit() || matches!(octet, b'.' | b'e' | b'E' | b'+' | b'-');
    begins && unsigned.bytes().all(allowed) && unsigned.parse::<f64>().is_ok()
}

/// The tree in the making.
struct Builder<I> {
    events: I,
    mistakes: Vec<Mistake>,
}

// === impl Builder ===

impl<'text, I: Iterator<Item = Result<(Event<'text>, Span), ScanError>>> Builder<I> {
    fn document(&mut self) -> Result<Option<Node>, ScanError> {
        let mut root = None;
        while let Some((event, span)) = self.events.next().transpose()? {
            if !event.is_node() {
                continue;
            }
            if root.is_some() {
                self.mistakes
                    .push(Mistake::at(place(&span.start), "another document begins here: the file is one"));
                break;
            }
            root = Some(self.node(event, &span)?);
        }
        Ok(root)
    }

    /// The node that begins with this event. The parser limits how deep nodes lie in each other.
    fn node(&mut self, event: Event<'text>, span: &Span) -> Result<Node, ScanError> {
        let at = place(&span.start);
        if event.tag().is_some() {
            self.mistakes.push(Mistake::at(at, "tags are not understood: a text stands in quotes"));
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "what is no node is no node's beginning")]
        let kind = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => Kind::Scalar(plain(&text)),
            Event::Scalar(text, ..) => Kind::Scalar(Scalar::Text(text.into_owned())),
            Event::SequenceStart(..) => Kind::List(self.list()?),
            Event::MappingStart(..) => Kind::Map(self.map()?),
            _ => {
                self.mistakes.push(Mistake::at(at, "aliases are not understood: say it again"));
                Kind::Scalar(Scalar::Null)
            }
        };
        Ok(Node { place: at, kind })
    }

    fn list(&mut self) -> Result<Vec<Node>, ScanError> {
        let mut list = Vec::new();
        while let Some((event, span)) = self.next_node()? {
            list.push(self.node(event, &span)?);
        }
        Ok(list)
    }

    fn map(&mut self) -> Result<Vec<(Key, Node)>, ScanError> {
        let mut map: Vec<(Key, Node)> = Vec::new();
        while let Some((event, span)) = self.next_node()? {
            let at = place(&span.start);
            let key = event.scalar().map(|(text, _)| text.to_owned());
            // A key that is no word is read all the same, to come to what follows it.
            let whole = self.node(event, &span)?;
            let Some((event, span)) = self.next_node()? else { break };
            let value = self.node(event, &span)?;
            match key {
                None => self.mistakes.push(Mistake::at(whole.place, "a key must be a word")),
                Some(text) => match map.iter().find(|(key, _)| key.text == text) {
                    Some((before, _)) => {
                        let problem = format!("`{text}` stands twice: {} is the first", before.place);
                        self.mistakes.push(Mistake::at(at, problem));
                    }
                    None => map.push((Key { place: at, text }, value)),
                },
            }
        }
        Ok(map)
    }

    /// The next node within a list or mapping; none at its end.
    fn next_node(&mut self) -> Result<Option<(Event<'text>, Span)>, ScanError> {
        while let Some((event, span)) = self.events.next().transpose()? {
            if event.is_node() {
                return Ok(Some((event, span)));
            }
            if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

// === impl Kind ===

impl Kind {
    /// What it is, in a word.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Scalar(Scalar::Null) => "nothing",
            Self::Scalar(Scalar::Bool(_)) => "true or false",
            Self::Scalar(Scalar::Whole(_)) => "a whole number",
            Self::Scalar(Scalar::Number(_)) => "a number",
            Self::Scalar(Scalar::Text(_)) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

fn place(mark: &granit_parser::Marker) -> Place {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place::Line { line: number(mark.line()), column: number(mark.col()).saturating_add(1) }
}
