//! The netboot servers of one machine: router advertisements, DHCPv6, TFTP and HTTP(S) on every mesh port.
//!
//! This is the shell around `netboot-proto`: sockets, netlink, files and the clock. [`Gateway`] watches the
//! machine's links; each mesh port gets its near address and one task that drives the cores of its link. What is
//! served comes from the caller's [`Content`]; what must be durable goes to the caller's [`Journal`]; how far each
//! boot has come is on the [`StatusBoard`].
//!
//! A link that is not what a mesh port is meant to have is not served: see [`netboot_proto::judge`].
//!
//! *Architecture invariant:* a request is trusted by the port that it came in on, so every socket is bound to its
//! device, and the body of a configuration is never logged.
//!
//! Once a gateway runs it needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE and nothing else: ports come
//! and go, and each new one needs sockets of its own.

mod board;
mod content;
mod events;
mod gate;
mod gateway;
mod http;
mod journal;
mod links;
mod metrics;
mod neighbours;
mod notes;
mod port;
mod routes;
mod socket;
mod survey;
mod tls;
mod transfer;

pub use board::StatusBoard;
pub use bytes::Bytes;
pub use content::{
    Content, ContentFile, IgnitionRefusal, IgnitionRequest, RefusalStatus, Sha256, Sha256Error,
};
pub use events::{EventLog, moment};
pub use gateway::{Gateway, GatewayConfig, GatewayEvent, GatewayHandle, OpenError, RunError};
pub use http::DetachedHttp;
pub use journal::{CommitError, Journal};
pub use netboot_proto::dhcp6::{Client, ServerId};
pub use netboot_proto::judge::DEFAULT_HOLD_DOWN;
pub use netboot_proto::{Arch, DomainName, DomainNameError, FileName, HttpBoot, Services, ServicesError};
pub use routes::{RouteScope, RoutesError, watch_routes};
pub use survey::{NotAPort, Surveyed, survey};
pub use tls::{CertificateError, Https, ServerCertificate};
