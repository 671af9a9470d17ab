//! Bootstrap tokens: what a machine shows to Kubernetes once, to join.

use std::fmt;
use std::str::FromStr;

const ID_LEN: usize = 6;
const SECRET_LEN: usize = 16;
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A kubeadm bootstrap token, `[a-z0-9]{6}.[a-z0-9]{16}`: the first part is public, the second is not.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

/// A text that is not a bootstrap token. It does not repeat the text: that may be a token with a typing error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a bootstrap token: expected 6 and 16 of a-z and 0-9, joined by a dot")]
pub struct ParseTokenError;

// === impl BootstrapToken ===

impl BootstrapToken {
    /// The token that these random numbers make. They have far more bits than the token, so that its characters
    /// are equally likely for every purpose.
    #[must_use]
    pub fn from_random(id: u64, secret: u128) -> Self {
        Self { id: base36(u128::from(id), ID_LEN), secret: base36(secret, SECRET_LEN) }
    }

    /// The public part: the name of the token's Secret is `bootstrap-token-<id>`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The part that is a secret.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.secret
    }

    /// The whole token, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl FromStr for BootstrapToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, secret) = text.split_once('.').ok_or(ParseTokenError)?;
        let good = |part: &str, len| part.len() == len && part.bytes().all(|octet| DIGITS.contains(&octet));
        if good(id, ID_LEN) && good(secret, SECRET_LEN) {
            Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
        } else {
            Err(ParseTokenError)
        }
    }
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn base36(mut number: u128, len: usize) -> String {
    let mut text = String::with_capacity(len);
    for _ in 0..len {
        let digit = usize::try_from(number % 36).expect("below 36");
        text.push(char::from(DIGITS[digit]));
        number /= 36;
    }
    text
}

#[cfg(test)]
mod tests;
