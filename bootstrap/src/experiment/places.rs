//! Places of the mesh in texts of an experiment: `${address:node1}`, `${service:default/web}`.

use std::collections::BTreeMap;

/// What places stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, String>);

/// A place that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nobody knows `${{{0}}}`")]
pub struct PlaceError(pub String);

// === impl Places ===

impl Places {
    /// Says what a place stands for.
    pub fn insert(&mut self, place: &str, address: String) {
        self.0.insert(place.to_owned(), address);
    }

    /// The places in a text that are not known yet.
    pub fn unknown<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        placeholders(text).filter(|place| !self.0.contains_key(*place))
    }

    /// The text with what its places stand for.
    ///
    /// # Errors
    ///
    /// One of them is not known.
    pub fn fill_in(&self, text: &str) -> Result<String, PlaceError> {
        let mut filled = text.to_owned();
        for place in placeholders(text) {
            let address = self.0.get(place).ok_or_else(|| PlaceError(place.to_owned()))?;
            filled = filled.replace(&format!("${{{place}}}"), address);
        }
        Ok(filled)
    }
}

/// The names in `${…}` of a text.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in_once_they_are_known() {
        let url = "http://[${address:node1}]:${port}/${address:node1}";
        let mut places = Places::default();
        places.insert("address:node1", "2001:db8::1".to_owned());
        assert_eq!(places.unknown(url).collect::<Vec<_>>(), ["port"]);
        assert_eq!(places.fill_in(url), Err(PlaceError("port".to_owned())));
        places.insert("port", "80".to_owned());
        assert_eq!(places.fill_in(url).unwrap(), "http://[2001:db8::1]:80/2001:db8::1");
        assert_eq!(places.fill_in("nothing $here {x}").unwrap(), "nothing $here {x}");
    }
}
