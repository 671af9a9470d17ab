//! Why there is no image.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use crate::store::StoreError;
use crate::upstream::UpstreamError;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// It is not in the store, and there is nobody to ask.
    #[error("{0} is not in the store, and its registry is none that is asked")]
    Absent(String),
    /// Its registry did not give it.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored of it cannot be read.
    #[error("cannot read what has come")]
    Read(#[source] io::Error),
    /// It is larger than what may be stored.
    #[error("{size} bytes are more than there is place for: {limit}, with what has to stay")]
    NoRoom {
        /// How large it is.
        size: u64,
        /// How large all may be.
        limit: u64,
    },
    /// Somebody else asked for the same, and this came of it.
    #[error(transparent)]
    Shared(#[from] Arc<Self>),
    /// This mirror asked for it itself: a neighbour that was asked asks back.
    #[error("{what} was asked for here, and the question came back by way of {trail}")]
    Circle {
        /// What.
        what: String,
        /// Who passed it on.
        trail: String,
    },
    /// This program is about to end.
    #[error("nothing is fetched any more")]
    Ended,
}

// === impl PullError ===

impl PullError {
    /// Whether it is certain that there is no such thing.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Absent(_)) || self.upstream().is_some_and(UpstreamError::is_absence)
    }

    /// What the registry that was asked did.
    #[must_use]
    pub fn upstream(&self) -> Option<&UpstreamError> {
        match self {
            Self::Upstream(error) => Some(error),
            Self::Shared(error) => error.upstream(),
            Self::Absent(_)
            | Self::Store(_)
            | Self::Read(_)
            | Self::NoRoom { .. }
            | Self::Circle { .. }
            | Self::Ended => None,
        }
    }

    /// Whether it could be had, and only not be stored.
    pub(super) fn is_for_room(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Store(StoreError::Io { source, .. }) => {
                matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            }
            Self::Shared(error) => error.is_for_room(),
            Self::Absent(_)
            | Self::Upstream(_)
            | Self::Store(_)
            | Self::Read(_)
            | Self::Circle { .. }
            | Self::Ended => false,
        }
    }
}
