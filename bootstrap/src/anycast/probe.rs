//! Questions to local services.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Outcome;

/// What an API server that was told to end says of itself, among its other checks, while it still serves.
/// [Kubernetes: API health endpoints]
const ENDS: &str = "[-]shutdown";

/// How a service is asked whether it is well.
#[derive(Debug, Clone)]
pub enum Probe {
    /// An HTTP or HTTPS address that answers 200 while the service is well.
    Http {
        /// What to ask.
        url: String,
        /// A client that trusts whom the URL needs trusted.
        client: reqwest::Client,
    },
}

impl Probe {
    /// A plain HTTP question.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be built.
    pub fn http(url: String) -> Result<Self> {
        Ok(Self::Http { client: client(None)?, url })
    }

    /// An HTTPS question to a server whose certificate is of this authority (PEM).
    ///
    /// # Errors
    ///
    /// The text is no certificate, or the HTTP client cannot be built.
    pub fn https(url: String, authority: &str) -> Result<Self> {
        Ok(Self::Http { client: client(Some(authority))?, url })
    }

    /// Asks once.
    pub async fn ask(&self, timeout: Duration) -> Outcome {
        match self {
            Self::Http { url, client } => match client.get(url).timeout(timeout).send().await {
                Ok(answer) if answer.status().is_success() => Outcome::Good,
                Ok(answer) => {
                    let status = answer.status();
                    match answer.text().await {
                        Ok(told) if told.lines().any(|line| line.starts_with(ENDS)) => {
                            Outcome::Gone(format!("{url} says that it is shutting down"))
                        }
                        _ => Outcome::Unwell(format!("{url} answers {status}")),
                    }
                }
                Err(error) if error.is_timeout() => Outcome::Unwell(format!("{url} does not answer")),
                Err(error) => Outcome::Gone(format!("{:#}", anyhow::Error::new(error))),
            },
        }
    }
}

/// A client for questions inside the node: no proxy. Its connection is kept: a TLS handshake a second would cost a
/// small machine more than all else that it is asked, and a connection ends with the process behind it.
fn client(authority: Option<&str>) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder().no_proxy();
    if let Some(pem) = authority {
        let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).context("not a PEM certificate")?;
        builder = builder.tls_certs_only([certificate]);
    }
    builder.build().context("cannot build an HTTP client")
}
