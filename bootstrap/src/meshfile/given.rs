//! From the tree to the types of [`written`](super::written), past every mistake.
//!
//! serde's derive knows the fields and their types, and would stop at the first mistake. [`Given`] is where it goes on:
//! what cannot be read there is noted with its place, and the rest of the file is read. Fields that do not exist are
//! noted and passed over before the derived code sees them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::{StrDeserializer, U64Deserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use super::mistake::{Mistake, Place};
use super::yaml::{Kind, Node, Scalar};
use crate::settings::nearest;

/// What [`Given`] calls itself towards a deserializer.
const GIVEN: &str = "meshboot::Given";

/// A value that may have been given, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Given<T> {
    /// Nothing was said of it.
    #[default]
    Absent,
    /// Something was said that is wrong, and noted.
    Wrong,
    /// This was said.
    Value(T, Place),
}

/// Reads a value out of a tree, and notes every mistake; none if even the whole is not what it should be.
pub(super) fn from_node<T: DeserializeOwned>(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<T> {
    let notes = RefCell::default();
    let read = T::deserialize(Reader { node, notes: &notes, name: None });
    mistakes.append(&mut notes.into_inner());
    read.map_err(|error| mistakes.push(error.into_mistake(node.place, None))).ok()
}

/// A value that cannot be read.
#[derive(Debug)]
struct ReadError {
    /// Where, if that is not where the value as a whole begins.
    place: Option<Place>,
    problem: String,
}

/// A part of the tree that is read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    notes: &'a RefCell<Vec<Mistake>>,
    /// The key that it stands at.
    name: Option<&'a str>,
}

/// The place of a value, and then the value.
struct Marked<'a> {
    reader: Reader<'a>,
    told_place: bool,
}

/// The items of a list.
struct Items<'a> {
    reader: Reader<'a>,
    rest: std::slice::Iter<'a, Node>,
}

/// The fields of a mapping.
struct Fields<'a> {
    reader: Reader<'a>,
    rest: std::slice::Iter<'a, (super::yaml::Key, Node)>,
    /// The fields that there are; none if any key will do.
    known: Option<&'static [&'static str]>,
    value: Option<Reader<'a>>,
}

// === impl Given ===

impl<T> Given<T> {
    /// What was said, if it can be understood.
    pub(crate) fn get(&self) -> Option<&T> {
        self.pair().map(|(value, _)| value)
    }

    /// The same with its place.
    pub(crate) fn pair(&self) -> Option<(&T, Place)> {
        match self {
            Self::Value(value, place) => Some((value, *place)),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// What was said, or else as if nothing was said at this place.
    pub(super) fn or_default(&mut self, place: Place) -> &mut T
    where
        T: Default,
    {
        if self.get().is_none() {
            *self = Self::Value(T::default(), place);
        }
        match self {
            Self::Value(value, _) => value,
            Self::Absent | Self::Wrong => unreachable!("it was made a value just before"),
        }
    }

    /// Whether nothing was said.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GivenVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for GivenVisitor<T> {
            type Value = Given<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a mesh's file")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Given::Absent)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut marked: A) -> Result<Self::Value, A::Error> {
                let place =
                    marked.next_element::<u64>()?.map_or(Place::Line { line: 1, column: 1 }, unpacked);
                Ok(marked.next_element()?.map_or(Given::Wrong, |value| Given::Value(value, place)))
            }
        }

        deserializer.deserialize_newtype_struct(GIVEN, GivenVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A place in one number, to pass it through serde.
fn packed(place: Place) -> u64 {
    match place {
        Place::Line { line, column } => u64::from(line) << 32 | u64::from(column),
        Place::Flag(_) => 0,
    }
}

fn unpacked(packed: u64) -> Place {
    let half = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    Place::Line { line: half(packed >> 32), column: half(packed) }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn is_null(self) -> bool {
        self.node.kind == Kind::Scalar(Scalar::Null)
    }

    fn is_not(self, wanted: &str) -> ReadError {
        let quotes = match &self.node.kind {
            Kind::Scalar(Scalar::Bool(_) | Scalar::Whole(_) | Scalar::Number(_)) if wanted == "a text" => {
                ": it becomes one in quotes"
            }
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => "",
        };
        ReadError { place: None, problem: format!("it is {}, not {wanted}{quotes}", self.node.kind.name()) }
    }

    fn text(self) -> Result<&'a str, ReadError> {
        match &self.node.kind {
            Kind::Scalar(Scalar::Text(text)) => Ok(text),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => Err(self.is_not("a text")),
        }
    }

    fn number<N: std::str::FromStr>(self) -> Result<N, ReadError> {
        match &self.node.kind {
            Kind::Scalar(Scalar::Whole(digits)) => digits
                .parse()
                .map_err(|_| ReadError { place: None, problem: format!("{digits} is out of all bounds") }),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => Err(self.is_not("a whole number")),
        }
    }

    fn fields(self, known: Option<&'static [&'static str]>) -> Result<Fields<'a>, ReadError> {
        match &self.node.kind {
            Kind::Map(pairs) => Ok(Fields { reader: self, rest: pairs.iter(), known, value: None }),
            Kind::Scalar(_) | Kind::List(_) => Err(self.is_not("a mapping")),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Scalar(Scalar::Null) => visitor.visit_unit(),
            Kind::Scalar(Scalar::Bool(word)) => visitor.visit_bool(*word),
            Kind::Scalar(Scalar::Whole(_)) => visitor.visit_i64(self.number()?),
            Kind::Scalar(Scalar::Number(digits)) => {
                visitor.visit_f64(digits.parse().map_err(|_| ReadError {
                    place: None,
                    problem: format!("`{digits}` is no number here"),
                })?)
            }
            Kind::Scalar(Scalar::Text(text)) => visitor.visit_borrowed_str(text),
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Scalar(Scalar::Bool(word)) => visitor.visit_bool(*word),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => Err(self.is_not("true or false")),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_u8(self.number()?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_u16(self.number()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match name {
            GIVEN if self.is_null() => visitor.visit_unit(),
            GIVEN => visitor.visit_seq(Marked { reader: self, told_place: false }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::List(items) => visitor.visit_seq(Items { reader: self, rest: items.iter() }),
            Kind::Scalar(_) | Kind::Map(_) => Err(self.is_not("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_map(self.fields(None)?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            // Some have a short form.
            Kind::Scalar(Scalar::Text(text)) => visitor.visit_borrowed_str(text),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => visitor.visit_map(self.fields(Some(fields))?),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_enum(StrDeserializer::new(self.text()?))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

// === impl Marked ===

impl<'de> SeqAccess<'de> for Marked<'de> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let reader = self.reader;
        if !self.told_place {
            self.told_place = true;
            let place: U64Deserializer<ReadError> = packed(reader.node.place).into_deserializer();
            return seed.deserialize(place).map(Some);
        }
        match seed.deserialize(reader) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                reader.notes.borrow_mut().push(error.into_mistake(reader.node.place, reader.name));
                Ok(None)
            }
        }
    }
}

// === impl Items ===

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let reader = self.reader;
        let read = |node| seed.deserialize(Reader { node, ..reader }).map_err(|error| error.at(node.place));
        self.rest.next().map(read).transpose()
    }
}

// === impl Fields ===

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        for (key, node) in self.rest.by_ref() {
            let name = key.text.as_str();
            if let Some(known) = self.known.filter(|known| !known.contains(&name)) {
                let problem = format!("there is no field `{name}`{}", hint(name, known));
                self.reader.notes.borrow_mut().push(Mistake::at(key.place, problem));
                continue;
            }
            self.value = Some(Reader { node, name: Some(name), ..self.reader });
            let text: StrDeserializer<'_, ReadError> = StrDeserializer::new(name);
            return seed.deserialize(text).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let reader = self.value.take().unwrap_or(self.reader);
        seed.deserialize(reader).map_err(|error| error.at(reader.node.place))
    }
}

/// What a field that does not exist should be: what kind, minikube or a habit call it, or what it is nearly.
fn hint(name: &str, known: &[&str]) -> String {
    let elsewhere = match name {
        "nodes" => Some("machines"),
        "cni" => Some("settings.kubernetes.cni"),
        "kubernetesVersion" => Some("settings.kubernetes.source, and of one kubelet with its machine"),
        "image" => Some("settings.image, and of one machine with the machine"),
        "mirrors" => Some("settings.mirrors"),
        "addresses" | "site" | "networking" => Some("settings.addresses and settings.site"),
        "metadata" => Some("name"),
        "links" => Some("cables"),
        _ => None,
    };
    match elsewhere {
        Some(place) => format!(": it is said in {place}"),
        None => {
            let near = nearest(name, known.iter().copied());
            if near.is_empty() { format!(": there are {}", known.join(", ")) } else { near }
        }
    }
}

// === impl ReadError ===

impl ReadError {
    fn into_mistake(self, place: Place, name: Option<&str>) -> Mistake {
        let named = name.filter(|_| self.place.is_none()).map(|name| format!("{name}: ")).unwrap_or_default();
        Mistake::at(self.place.unwrap_or(place), format!("{named}{}", self.problem))
    }

    fn at(self, place: Place) -> Self {
        Self { place: self.place.or(Some(place)), ..self }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { place: None, problem: message.to_string() }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "what YAML does not have is never met")]
        let found = match unexpected {
            Unexpected::Str(_) => "a text".to_owned(),
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Bool(_) => "true or false".to_owned(),
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => "a whole number".to_owned(),
            Unexpected::Float(_) => "a number".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            other => other.to_string(),
        };
        let wanted = expected.to_string();
        let wanted = if wanted.starts_with("struct ") { "a mapping" } else { &wanted };
        Self { place: None, problem: format!("it is {found}, not {wanted}") }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = nearest(variant, expected.iter().copied());
        let problem = format!("`{variant}` is none of {}{near}", expected.join(", "));
        Self { place: None, problem }
    }
}
