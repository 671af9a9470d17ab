//! Why a registry elsewhere did not give what it was asked for.

use std::error::Error;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode, Url};

use crate::store::Digest;

/// Why a registry elsewhere did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// There is no such place.
    #[error("`{0}` is no registry's address: expected https://HOST[:PORT]")]
    Endpoint(String),
    /// It has no such thing.
    #[error("{url} is not there")]
    NotFound {
        /// What.
        url: String,
    },
    /// It gives it to nobody, or to others.
    #[error("{url} is refused ({status}): the site needs credentials for this registry, or others")]
    Denied {
        /// What.
        url: String,
        /// In which way.
        status: StatusCode,
    },
    /// It was asked too often.
    #[error("{url} is refused: too many requests")]
    TooMany {
        /// What.
        url: String,
        /// How long to leave it alone.
        again_in: Option<Duration>,
    },
    /// It answers otherwise.
    #[error("{url} is answered with {status}")]
    Status {
        /// What.
        url: String,
        /// How.
        status: StatusCode,
    },
    /// It sends another part than was asked for.
    #[error("{url} was asked for from byte {from} on, and another part came")]
    WrongPart {
        /// What.
        url: String,
        /// Which byte.
        from: u64,
    },
    /// It sends less than it said.
    #[error("{url} has {size} bytes, and {got} came")]
    Short {
        /// What.
        url: String,
        /// How long it is.
        size: u64,
        /// How many bytes are there.
        got: u64,
    },
    /// It cannot be reached, or broke off.
    #[error("{url} cannot be fetched")]
    Transfer {
        /// What.
        url: String,
        /// How it failed.
        #[source]
        source: reqwest::Error,
    },
    /// It took too long.
    #[error("{url} was not answered within {limit:?}")]
    Late {
        /// What.
        url: String,
        /// How long it had.
        limit: Duration,
    },
    /// It sends more than such a thing has.
    #[error("{url} is longer than {limit} bytes")]
    TooLarge {
        /// What.
        url: String,
        /// The most that is taken.
        limit: u64,
    },
    /// It sends something else.
    #[error("{url} has other bytes than its name says: expected {expected}, got {actual}")]
    Mismatch {
        /// What.
        url: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// It wants to know who asks in a way that is not known here.
    #[error("{url} wants an authorization of an unknown kind: {challenges}")]
    Challenge {
        /// What.
        url: String,
        /// What it wants.
        challenges: String,
    },
    /// Who gives out its tokens gives none.
    #[error("no token from {realm}: {reason}")]
    Token {
        /// Who.
        realm: String,
        /// Why not.
        reason: String,
    },
    /// None of the neighbours knows, and each of them was asked or has failed a moment ago.
    #[error("no neighbour knows an image of {registry}: {reasons}")]
    Neighbours {
        /// Whose image.
        registry: String,
        /// What each of them said.
        reasons: String,
    },
    /// This program is about to end.
    #[error("nothing is fetched any more")]
    Closed,
}

// === impl UpstreamError ===

impl UpstreamError {
    /// An answer that is none of those hoped for.
    pub(super) fn refused(response: &Response) -> Self {
        let url = response.url().to_string();
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Self::NotFound { url },
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Self::Denied { url, status },
            StatusCode::TOO_MANY_REQUESTS => Self::TooMany { url, again_in: retry_after(response) },
            status => Self::Status { url, status },
        }
    }

    pub(super) fn transfer(url: &Url, source: reqwest::Error) -> Self {
        let url = source.url().unwrap_or(url).to_string();
        Self::Transfer { url, source: source.without_url() }
    }

    /// How long to wait at least before it is worth to ask again; none if it is not.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::TooMany { again_in, .. } => Some(again_in.unwrap_or_default()),
            Self::Status { status, .. } if status.is_server_error() => Some(Duration::ZERO),
            Self::Status { status, .. } if *status == StatusCode::REQUEST_TIMEOUT => Some(Duration::ZERO),
            Self::Transfer { .. } | Self::Short { .. } => Some(Duration::ZERO),
            Self::Endpoint(_)
            | Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::Status { .. }
            | Self::WrongPart { .. }
            | Self::Late { .. }
            | Self::TooLarge { .. }
            | Self::Mismatch { .. }
            | Self::Challenge { .. }
            | Self::Token { .. }
            | Self::Neighbours { .. }
            | Self::Closed => None,
        }
    }

    /// Whether the registry said for sure that it has no such thing.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// An error with what is behind it, for who has no log of this machine.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

/// In seconds; the other form of it, a date, is not waited for.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
