//! Who asks: what a registry wants to see, kept as long as it is good.
//!
//! A registry that wants an authorization says which [RFC 9110 § 11.6.1]: `Basic`, the credentials themselves, or
//! `Bearer`, a token that its realm gives for a scope (Docker Registry v2 authentication, "Token Authentication
//! Specification"), to anybody or to who has credentials.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_auth::{ChallengeRef, basic::encode_credentials, parser::ChallengeParser};
use reqwest::header::HeaderValue;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::{Credentials, UpstreamError};

/// How long a token is good that does not say it.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is not used in the last seconds of its life.
const MARGIN: Duration = Duration::from_secs(10);
/// Tokens of this many scopes are kept.
const MAX_TOKENS: usize = 1000;
/// The longest answer of a realm.
const MAX_ANSWER: usize = 64 * 1024;

/// What was obtained so far, by scope.
#[derive(Debug)]
pub(super) struct Tokens {
    client: Client,
    credentials: Option<Credentials>,
    known: Mutex<HashMap<String, Authorization>>,
}

/// What a request carries.
#[derive(Clone)]
pub(super) struct Authorization {
    header: HeaderValue,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

// === impl Tokens ===

impl Tokens {
    pub(super) fn new(client: Client, credentials: Option<Credentials>) -> Self {
        Self { client, credentials, known: Mutex::default() }
    }

    /// What was good for a scope a moment ago.
    pub(super) fn known(&self, scope: &str) -> Option<Authorization> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(scope).filter(|known| known.is_good()).cloned()
    }

    /// Obtains what one of these challenges asks for.
    pub(super) async fn obtain(
        &self,
        url: &Url,
        challenges: &[String],
        scope: &str,
    ) -> Result<Authorization, UpstreamError> {
        let parsed: Vec<ChallengeRef<'_>> =
            challenges.iter().flat_map(|text| ChallengeParser::new(text).filter_map(Result::ok)).collect();
        let of = |scheme: &str| parsed.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        let authorization = match (of("bearer"), of("basic"), &self.credentials) {
            (Some(challenge), _, _) => self.fetch(url, challenge, scope).await?,
            (None, Some(_), Some(credentials)) => basic(credentials)?,
            (None, Some(_), None) => {
                return Err(UpstreamError::Denied { url: url.to_string(), status: StatusCode::UNAUTHORIZED });
            }
            (None, None, _) => {
                let challenges = challenges.join(", ");
                return Err(UpstreamError::Challenge { url: url.to_string(), challenges });
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_TOKENS {
            known.retain(|_, known| known.is_good());
        }
        if known.len() < MAX_TOKENS {
            known.insert(scope.to_owned(), authorization.clone());
        }
        Ok(authorization)
    }

    async fn fetch(
        &self,
        url: &Url,
        challenge: &ChallengeRef<'_>,
        scope: &str,
    ) -> Result<Authorization, UpstreamError> {
        let parameter = |name: &str| {
            let found = challenge.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = parameter("realm").unwrap_or_default();
        let failed = |reason: String| UpstreamError::Token { realm: realm.clone(), reason };
        let mut asked =
            Url::parse(&realm).map_err(|_| failed(format!("the realm of {url} is no address")))?;
        // What is asked for in clear may be answered in clear; a password is not sent from one to the other.
        if url.scheme() == "https" && asked.scheme() != "https" {
            return Err(failed(format!("{url} is reached by HTTPS and its realm is not")));
        }
        if let Some(service) = parameter("service") {
            asked.query_pairs_mut().append_pair("service", &service);
        }
        let scope = parameter("scope").unwrap_or_else(|| scope.to_owned());
        asked.query_pairs_mut().append_pair("scope", &scope);
        let mut request = self.client.get(asked);
        if let Some(Credentials { user, password }) = &self.credentials {
            request = request.basic_auth(user, Some(password));
        }
        let mut response = request.send().await.map_err(|source| failed(source.without_url().to_string()))?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(UpstreamError::Denied { url: url.to_string(), status });
            }
            status => return Err(failed(format!("it answers with {status}"))),
        }
        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|source| failed(source.without_url().to_string()))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(failed(format!("its answer is longer than {MAX_ANSWER} bytes")));
            }
        }
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|error| failed(format!("its answer is not the JSON that it should be ({error})")))?;
        let token = answer.token.or(answer.access_token);
        let token = token.ok_or_else(|| failed("its answer holds none".to_owned()))?;
        let header = secret(&format!("Bearer {token}"));
        let header = header.ok_or_else(|| failed("it is none that a request can carry".to_owned()))?;
        let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
        let until = Instant::now().checked_add(lifetime.saturating_sub(MARGIN));
        Ok(Authorization { header, until })
    }
}

// === impl Authorization ===

impl Authorization {
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    fn is_good(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization").field("until", &self.until).finish_non_exhaustive()
    }
}

fn basic(credentials: &Credentials) -> Result<Authorization, UpstreamError> {
    let Credentials { user, password } = credentials;
    let failed = || UpstreamError::Token {
        realm: "the credentials".to_owned(),
        reason: "no request can carry them".to_owned(),
    };
    let header = secret(&encode_credentials(user, password)).ok_or_else(failed)?;
    Ok(Authorization { header, until: None })
}

/// A header's value that is never shown.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
