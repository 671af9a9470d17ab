//! What a machine says of itself when it asks for its configuration.

use mesh::Mac;
use uuid::Uuid;

/// More than a block has links for.
const MAX_PORTS: usize = 64;
/// IFNAMSIZ without its zero octet.
const MAX_NAME: usize = 15;
/// More than any name of images has.
const MAX_IMAGE: usize = 64;

/// A machine's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) uuid: Option<Uuid>,
    pub(super) ports: Vec<(String, Mac)>,
    pub(super) image: Option<String>,
}

/// A query that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    #[error("`uuid` is not a UUID")]
    Uuid,
    #[error("`port` is not an interface's name and an Ethernet address, joined by a comma")]
    Port,
    #[error("more than {MAX_PORTS} ports")]
    Many,
    #[error("`image` names no images")]
    Image,
}

/// Reads `uuid=U&image=ID&port=NAME,MAC&port=…`; other keys are for later versions. A UUID that the firmware has not got is
/// left out or empty, and so are images that have no name.
pub(super) fn parse(query: &str) -> Result<Question, QueryError> {
    let mut question = Question::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "uuid" if value.is_empty() => {}
            "uuid" => question.uuid = Some(Uuid::try_parse(&value).map_err(|_| QueryError::Uuid)?),
            "image" if value.is_empty() => {}
            "image" => question.image = Some(image(&value).ok_or(QueryError::Image)?),
            "port" => {
                if question.ports.len() == MAX_PORTS {
                    return Err(QueryError::Many);
                }
                question.ports.push(port(&value).ok_or(QueryError::Port)?);
            }
            _ => {}
        }
    }
    Ok(question)
}

fn image(value: &str) -> Option<String> {
    let good = value.len() <= MAX_IMAGE && value.bytes().all(|octet| octet.is_ascii_alphanumeric());
    good.then(|| value.to_owned())
}

fn port(value: &str) -> Option<(String, Mac)> {
    let (name, mac) = value.split_once(',')?;
    let plain = |c: char| c.is_ascii_graphic() && c != '/';
    let good = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain);
    good.then(|| Some((name.to_owned(), mac.parse().ok()?))).flatten()
}

#[cfg(test)]
mod tests;
