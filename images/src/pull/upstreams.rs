//! Who is asked for what is missing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use reqwest::Client;

use crate::store::RegistryName;
use crate::upstream::{Neighbours, Upstream, UpstreamConfig, UpstreamError};

/// Registries that nobody named and that were asked for, at most.
const MAX_OTHERS: usize = 64;

/// Who is asked for what is missing.
#[derive(Debug)]
pub struct Upstreams {
    known: HashMap<RegistryName, Upstream>,
    others: Option<Others>,
}

/// All others, by their names.
#[derive(Debug)]
struct Others {
    client: Client,
    /// They are asked for all of them; if there are none, the registries themselves.
    neighbours: Option<Neighbours>,
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
        let others = others.then(|| Others::new(client, None));
        Ok(Self { known: known.collect::<Result<_, UpstreamError>>()?, others })
    }

    /// Neighbours, for whichever registry a client names.
    #[must_use]
    pub fn neighbours(neighbours: Neighbours, client: &Client) -> Self {
        Self { known: HashMap::new(), others: Some(Others::new(client, Some(neighbours))) }
    }

    /// What this mirror calls itself before its neighbours, if it asks any.
    pub(super) fn name(&self) -> Option<&str> {
        Some(self.others.as_ref()?.neighbours.as_ref()?.name.as_str())
    }

    /// Who is asked for a registry's images.
    pub(super) fn of(&self, registry: &RegistryName) -> Result<Option<Upstream>, UpstreamError> {
        if let Some(upstream) = self.known.get(registry) {
            return Ok(Some(upstream.clone()));
        }
        match &self.others {
            Some(others) if others.neighbours.is_some() || registry.is_public() => {
                others.of(registry).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }
}

// === impl Others ===

impl Others {
    fn new(client: &Client, neighbours: Option<Neighbours>) -> Self {
        Self { client: client.clone(), neighbours, known: Mutex::default() }
    }

    fn of(&self, registry: &RegistryName) -> Result<Upstream, UpstreamError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upstream) = known.get(registry) {
            return Ok(upstream.clone());
        }
        let client = self.client.clone();
        let upstream = match &self.neighbours {
            Some(neighbours) => Upstream::by_neighbours(registry.clone(), neighbours, client),
            None => {
                let config = UpstreamConfig { registry: registry.clone(), endpoint: None, credentials: None };
                Upstream::new(config, client)?
            }
        };
        if known.len() >= MAX_OTHERS {
            known.clear();
        }
        known.insert(registry.clone(), upstream.clone());
        Ok(upstream)
    }
}
