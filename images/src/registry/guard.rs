//! Who may push: whoever knows the password, by TLS.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::error::Refusal;
use crate::store::Digest;

/// The user that a password belongs to: docker cannot do without one.
pub const USER: &str = "meshboot";

/// Who may come in, and what proves to them where they are.
#[derive(Clone)]
pub struct Guard {
    /// The SHA-256 of the password, which is random: its digest is no help to guess it.
    pub password: Digest,
    /// What is shown.
    pub identity: Arc<dyn Identity>,
}

/// What a server shows to prove who it is.
pub trait Identity: Send + Sync {
    /// For a client that reached it at this address.
    ///
    /// # Errors
    ///
    /// There is no certificate for it.
    fn at(&self, address: IpAddr) -> io::Result<Arc<rustls::ServerConfig>>;
}

// === impl Guard ===

impl Guard {
    fn knows(&self, headers: &HeaderMap) -> bool {
        let password = || {
            let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
            let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
            let colon = decoded.iter().position(|octet| *octet == b':')?;
            let (user, password) = (decoded.get(..colon)?, decoded.get(colon + 1..)?);
            let is_ours = scheme.eq_ignore_ascii_case("basic") && user == USER.as_bytes();
            is_ours.then(|| Digest::of(password))
        };
        password() == Some(self.password)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Lets no request through without the password `[RFC 7617]`.
pub(super) async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if guard.knows(request.headers()) {
        return next.run(request).await;
    }
    let presented = request.headers().contains_key(header::AUTHORIZATION);
    if presented {
        tracing::warn!("somebody came to the registry with another password");
    }
    Refusal::Unauthorized { presented }.into_response()
}
