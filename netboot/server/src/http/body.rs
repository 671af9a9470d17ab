//! What a response carries.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use plain_http::file::{CHUNK, read_at};
use tokio::sync::OwnedSemaphorePermit;

use super::connections::Busy;
use super::tally::Tally;

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// Octets whose number is known, so nothing goes out in chunks, and what is held until they are gone.
#[derive(Default)]
pub(super) struct Body {
    pub(super) octets: Octets,
    pub(super) held: Held,
}

/// The server's turn on the connection, and a place among those who are sent a file.
pub(super) type Held = (Option<Busy>, Option<OwnedSemaphorePermit>);

/// Octets in memory, or a part of a file.
pub(super) enum Octets {
    Whole(Option<Bytes>, Option<Arc<Tally>>),
    File { file: Arc<File>, from: u64, to: u64, reading: Option<Reading>, tally: Arc<Tally> },
}

// === impl Body ===

impl Body {
    pub(super) fn empty() -> Self {
        Self::default()
    }

    pub(super) fn whole(octets: Bytes) -> Self {
        Self { octets: Octets::Whole(Some(octets), None), held: Held::default() }
    }

    /// Octets of a file that are in memory, which are counted when they have gone out.
    pub(super) fn counted(octets: Bytes, turn: OwnedSemaphorePermit, tally: Arc<Tally>) -> Self {
        Self { octets: Octets::Whole(Some(octets), Some(tally)), held: (None, Some(turn)) }
    }

    /// The file's octets from `from` up to `to`, which are counted when they have gone out.
    pub(super) fn file(
        file: Arc<File>,
        from: u64,
        to: u64,
        turn: OwnedSemaphorePermit,
        tally: Arc<Tally>,
    ) -> Self {
        let octets = Octets::File { file, from, to, reading: None, tally };
        Self { octets, held: (None, Some(turn)) }
    }

    /// The same, and as long as it is there it is the server's turn.
    pub(super) fn during(self, busy: Busy) -> Self {
        let (_, turn) = self.held;
        Self { octets: self.octets, held: (Some(busy), turn) }
    }
}

impl Default for Octets {
    fn default() -> Self {
        Self::Whole(None, None)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.get_mut().octets {
            Octets::Whole(octets, tally) => Poll::Ready(octets.take().map(|octets| {
                if let Some(tally) = tally {
                    tally.count(octets.len() as u64);
                }
                Ok(Frame::data(octets))
            })),
            Octets::File { from, to, .. } if from == to => Poll::Ready(None),
            Octets::File { file, from, to, reading, tally } => {
                let next = reading.get_or_insert_with(|| {
                    let len = (*to - *from).min(CHUNK as u64);
                    Box::pin(read_at(Arc::clone(file), *from, len))
                });
                let octets = ready!(next.as_mut().poll(cx));
                *reading = None;
                let octets = octets?;
                let len = octets.len() as u64;
                *from += len;
                tally.count(len);
                if from == to {
                    tally.tell();
                }
                Poll::Ready(Some(Ok(Frame::data(octets))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.octets {
            Octets::Whole(octets, _) => octets.is_none(),
            Octets::File { from, to, .. } => from == to,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.octets {
            Octets::Whole(octets, _) => octets.as_ref().map_or(0, |octets| octets.len() as u64),
            Octets::File { from, to, .. } => to - from,
        })
    }
}
