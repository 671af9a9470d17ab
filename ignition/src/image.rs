//! The images that a node boots from, by the name of their set.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many digits a name has.
const DIGITS: usize = 16;

/// The name of a set of images that belong together, as `meshboot image list` shows it: what they were made of, as 16
/// lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageId(String);

/// A text that names no set of images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no images: {DIGITS} digits of 0-9 and a-f, as `meshboot image list` shows them")]
pub struct ImageIdError(String);

// === impl ImageId ===

impl ImageId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageId {
    type Err = ImageIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |octet: u8| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
        let good = text.len() == DIGITS && text.bytes().all(digit);
        if good { Ok(Self(text.to_owned())) } else { Err(ImageIdError(text.to_owned())) }
    }
}

impl TryFrom<String> for ImageId {
    type Error = ImageIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ImageId> for String {
    fn from(id: ImageId) -> Self {
        id.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_sixteen_digits() {
        assert_eq!("0123456789abcdef".parse::<ImageId>().unwrap().to_string(), "0123456789abcdef");
        for text in
            ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "latest", "../../etc/passwd"]
        {
            assert_eq!(text.parse::<ImageId>(), Err(ImageIdError(text.to_owned())));
        }
    }
}
