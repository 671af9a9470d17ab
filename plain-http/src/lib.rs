//! The plain case of HTTP: a file, all of it or a part, from the kernel's memory to the wire.
//!
//! Almost everything that a mesh sends is a few large files, again and again. A request that plainly wants one is read
//! [here](next), and its octets go out by `sendfile` and are never copied to this process. Whatever is not plain, from the
//! first request on that is not, goes with its connection to the HTTP library, which knows all of the protocol.

pub mod file;
mod request;
mod send;

pub use request::{MAX_HEAD, MAX_HEADERS, Next, next};
pub use send::{Copied, Head, Kernel, Sender};
