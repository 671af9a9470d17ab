//! The registries that are asked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use reqwest::Client;

use crate::store::RegistryName;
use crate::upstream::{Upstream, UpstreamConfig, UpstreamError};

/// Registries that nobody named and that were asked for, at most.
const MAX_OTHERS: usize = 64;

/// The registries that are asked for what is missing.
#[derive(Debug)]
pub struct Upstreams {
    known: HashMap<RegistryName, Upstream>,
    others: Option<Others>,
}

/// All others, by their names.
#[derive(Debug)]
struct Others {
    client: Client,
    known: Mutex<HashMap<RegistryName, Upstream>>,
}

// === impl Upstreams ===

impl Upstreams {
    /// Nobody is asked: the store is all there is.
    #[must_use]
    pub fn none() -> Self {
        Self { known: HashMap::new(), others: None }
    }

    /// These registries; with `others` also any else that a client names, at its name by HTTPS.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Endpoint`].
    pub fn new(configs: Vec<UpstreamConfig>, others: bool, client: &Client) -> Result<Self, UpstreamError> {
        let known = configs.into_iter().map(|config| {
            let upstream = Upstream::new(config, client.clone())?;
            Ok((upstream.registry().clone(), upstream))
        });
        let others = others.then(|| Others { client: client.clone(), known: Mutex::default() });
        Ok(Self { known: known.collect::<Result<_, UpstreamError>>()?, others })
    }

    /// Who is asked for a registry's images.
    pub(super) fn of(&self, registry: &RegistryName) -> Result<Option<Upstream>, UpstreamError> {
        if let Some(upstream) = self.known.get(registry) {
            return Ok(Some(upstream.clone()));
        }
        match &self.others {
            Some(others) if registry.is_public() => others.of(registry).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

// === impl Others ===

impl Others {
    fn of(&self, registry: &RegistryName) -> Result<Upstream, UpstreamError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upstream) = known.get(registry) {
            return Ok(upstream.clone());
        }
        let config = UpstreamConfig { registry: registry.clone(), endpoint: None, credentials: None };
        let upstream = Upstream::new(config, self.client.clone())?;
        if known.len() >= MAX_OTHERS {
            known.clear();
        }
        known.insert(registry.clone(), upstream.clone());
        Ok(upstream)
    }
}
