//! What a response carries.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::file::{CHUNK, FileReader, read_at};

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// Octets in memory, or a part of a file. Its size is known, so nothing goes out in chunks.
pub(super) enum Body {
    Whole(Option<Bytes>),
    File { file: Arc<File>, from: u64, to: u64, reading: Option<Reading>, count: Box<dyn Fn(u64) + Send> },
}

// === impl Body ===

impl Body {
    pub(super) fn empty() -> Self {
        Self::Whole(None)
    }

    pub(super) fn whole(octets: Bytes) -> Self {
        Self::Whole(Some(octets))
    }

    /// The file's octets from `from` up to `to`; `count` hears how many have gone out.
    pub(super) fn file(reader: FileReader, from: u64, to: u64, count: impl Fn(u64) + Send + 'static) -> Self {
        Self::File { file: reader.into_file(), from, to, reading: None, count: Box::new(count) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(octets) => Poll::Ready(octets.take().map(|octets| Ok(Frame::data(octets)))),
            Self::File { from, to, .. } if from == to => Poll::Ready(None),
            Self::File { file, from, to, reading, count } => {
                let next = reading.get_or_insert_with(|| {
                    let len = (*to - *from).min(CHUNK as u64);
                    Box::pin(read_at(Arc::clone(file), *from, len))
                });
                let octets = ready!(next.as_mut().poll(cx));
                *reading = None;
                let octets = octets?;
                let len = octets.len() as u64;
                *from += len;
                count(len);
                Poll::Ready(Some(Ok(Frame::data(octets))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(octets) => octets.is_none(),
            Self::File { from, to, .. } => from == to,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(octets) => octets.as_ref().map_or(0, |octets| octets.len() as u64),
            Self::File { from, to, .. } => to - from,
        })
    }
}
