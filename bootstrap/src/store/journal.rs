//! The ledger as a gateway has it: kept by whoever has the say, with a copy at hand.
//!
//! | machine | before the import | after it | Kubernetes away |
//! |---|---|---|---|
//! | seed | its file is the ledger | Kubernetes is; the file is a copy | knows what the copy knows, gives nothing new |
//! | relay | waits | Kubernetes is; the file, if it has a disk, is a copy | as the seed |
//!
//! That the ledger was handed over is remembered in the file before Kubernetes is told, so that no crash can
//! leave two that both believe they have the say. The copy is never decided on: a decision names the
//! revision that it was made on, and Kubernetes refuses an old one.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use mesh::{Change, Ledger, Revision, Store, StoreError};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{debug, info, warn};

use super::kubernetes::{Import, KubernetesStore};
use super::redb::{Phase, RedbStore};

/// How long after a broken watch the next one is begun.
const WATCH_PAUSE: Duration = Duration::from_secs(5);

/// A machine's view of its site's ledger.
#[derive(Debug)]
pub struct MeshStore {
    file: Option<RedbStore>,
    state: RwLock<State>,
    /// Held while the ledger is written to the file as its own, and while it is handed over.
    writing: Mutex<()>,
    connected: Notify,
}

/// Who has the say over the ledger, as far as this machine can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// This machine's file.
    Own,
    /// Kubernetes, and it answers.
    Kubernetes,
    /// Kubernetes, and it does not answer: what is known goes on, nothing new is given.
    Away {
        /// Why it does not answer.
        reason: String,
    },
}

#[derive(Debug)]
struct State {
    ledger: Arc<Ledger>,
    revision: Revision,
    /// Whether the ledger above was ever read from somewhere.
    known: bool,
    kubernetes: Option<Arc<KubernetesStore>>,
    authority: Authority,
}

// === impl MeshStore ===

impl MeshStore {
    /// The store of a seed, whose file is the ledger until Kubernetes has imported it.
    ///
    /// # Errors
    ///
    /// See [`Store::load`].
    pub fn seed(file: RedbStore) -> Result<Self, StoreError> {
        let authority = match file.phase() {
            Phase::Own => Authority::Own,
            Phase::HandingOver | Phase::Copy => not_yet(),
        };
        Self::with_file(Some(file), authority)
    }

    /// The store of a relay, whose file, if it has a disk, is only ever a copy.
    ///
    /// # Errors
    ///
    /// See [`Store::load`].
    pub fn relay(file: Option<RedbStore>) -> Result<Self, StoreError> {
        Self::with_file(file, not_yet())
    }

    fn with_file(file: Option<RedbStore>, authority: Authority) -> Result<Self, StoreError> {
        let (ledger, revision) = file.as_ref().map_or_else(|| Ok(Default::default()), Store::load)?;
        // A relay's new file holds nothing, and that is not what the site has.
        let known = authority == Authority::Own || revision > Revision(0);
        let state = State { ledger: Arc::new(ledger), revision, known, kubernetes: None, authority };
        Ok(Self { file, state: RwLock::new(state), writing: Mutex::default(), connected: Notify::new() })
    }

    /// Lets Kubernetes have the say from now on, once it answers. On a seed whose file is the ledger it is
    /// handed over first; `origin` says whose it was, and must be the same at each call. Call it until it
    /// succeeds, and once after each start of the gateway. It blocks as the store does, and longer.
    ///
    /// # Errors
    ///
    /// Why Kubernetes cannot have the ledger yet. What was not handed over is still written to the file; what
    /// was begun to be is refused until a call succeeds.
    pub fn connect(&self, kubernetes: Arc<KubernetesStore>, origin: Option<&str>) -> Result<(), StoreError> {
        self.hand_over(kubernetes, origin).inspect_err(|error| {
            if self.authority() != Authority::Own {
                self.away(error);
            }
        })
    }

    fn hand_over(&self, kubernetes: Arc<KubernetesStore>, origin: Option<&str>) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(file), Some(origin)) = (&self.file, origin) {
            let (ledger, revision) = file.load()?;
            if file.phase() == Phase::Own {
                // From here on a crash leaves a file that does not believe it is the ledger.
                file.set_phase(Phase::HandingOver)?;
                self.write_state(|state| state.authority = not_yet());
            }
            match kubernetes.import(&ledger, revision, origin)? {
                Import::Done => info!(revision = revision.0, "Kubernetes has the ledger from now on"),
                Import::Known { from } => debug!(from, "Kubernetes has a ledger already"),
            }
        }
        let (ledger, revision) = kubernetes.load()?;
        self.lost(&ledger);
        self.remember(Arc::new(ledger), revision);
        self.write_state(|state| {
            state.kubernetes = Some(kubernetes);
            state.authority = Authority::Kubernetes;
        });
        self.connected.notify_waiters();
        Ok(())
    }

    /// The ledger as it was last seen, at no cost: for answers that only need what is known.
    #[must_use]
    pub fn cached(&self) -> Arc<Ledger> {
        self.read_state(|state| Arc::clone(&state.ledger))
    }

    /// Who has the say.
    #[must_use]
    pub fn authority(&self) -> Authority {
        self.read_state(|state| state.authority.clone())
    }

    /// The store in Kubernetes, once it is connected.
    #[must_use]
    pub fn kubernetes(&self) -> Option<Arc<KubernetesStore>> {
        self.read_state(|state| state.kubernetes.clone())
    }

    /// Keeps the copy fresh by a watch, for as long as it is polled. `changed` is called after each time that the
    /// copy may have changed.
    pub async fn follow(self: Arc<Self>, changed: impl Fn()) {
        loop {
            let connected = self.connected.notified();
            let Some(kubernetes) = self.kubernetes() else {
                connected.await;
                continue;
            };
            let noticed = Notify::new();
            let mut watch = pin!(kubernetes.watch(&noticed));
            let broken = loop {
                tokio::select! {
                    broken = &mut watch => break broken,
                    () = noticed.notified() => {}
                }
                let this = Arc::clone(&self);
                // If it panics, that was reported, and the next change reads again.
                if let Ok(Err(error)) = spawn_blocking(move || this.load().map(drop)).await {
                    debug!(%error, "the ledger changed and could not be read");
                }
                changed();
            };
            debug!(%broken, "the watch on the ledger broke");
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    }

    /// Says once what an older copy knew and Kubernetes does not.
    fn lost(&self, ledger: &Ledger) {
        let known = self.cached();
        for machine in known.machines().filter(|machine| ledger.machine(machine.id).is_none()) {
            info!(machine = %machine.id, node = %machine.name, "removed while this machine did not look");
        }
    }

    fn remember(&self, ledger: Arc<Ledger>, revision: Revision) {
        let fresh = self.write_state(|state| {
            let fresh = !state.known || state.revision <= revision || state.kubernetes.is_none();
            if fresh {
                (state.ledger, state.revision, state.known) = (Arc::clone(&ledger), revision, true);
            }
            fresh
        });
        if let Some(file) = self.file.as_ref().filter(|_| fresh)
            && let Err(error) = file.copy(&ledger, revision)
        {
            // It is in Kubernetes; only a start without Kubernetes would miss it.
            warn!(%error, "this machine's copy of the ledger is not up to date");
        }
    }

    fn away(&self, error: &StoreError) {
        if let StoreError::Unavailable { reason } = error {
            self.write_state(|state| state.authority = Authority::Away { reason: reason.clone() });
        }
    }

    fn read_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_state<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        write(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn append_own(&self, expected: Revision, change: &Change) -> Result<Revision, StoreError> {
        let own = || match (&self.file, self.authority()) {
            (Some(file), Authority::Own) => Ok(file),
            (_, Authority::Away { reason }) => Err(StoreError::Unavailable { reason }),
            // It was handed over between the caller's look and this one.
            (_, Authority::Own | Authority::Kubernetes) => {
                Err(StoreError::Unavailable { reason: "it was handed over this moment".to_owned() })
            }
        };
        // Who comes while it is handed over does not wait for the end of that.
        own()?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let file = own()?;
        let revision = file.append(expected, change)?;
        let (ledger, _) = file.load()?;
        self.write_state(|state| (state.ledger, state.revision) = (Arc::new(ledger), revision));
        Ok(revision)
    }
}

impl Store for MeshStore {
    fn load(&self) -> Result<(Ledger, Revision), StoreError> {
        let kubernetes = self.kubernetes();
        let error = match kubernetes.as_deref().map(Store::load) {
            Some(Ok((ledger, revision))) => {
                self.remember(Arc::new(ledger.clone()), revision);
                self.write_state(|state| state.authority = Authority::Kubernetes);
                return Ok((ledger, revision));
            }
            Some(Err(error @ StoreError::Unavailable { .. })) => {
                self.away(&error);
                Some(error)
            }
            Some(Err(error)) => return Err(error),
            None => None,
        };
        self.read_state(|state| match (state.known, error, &state.authority) {
            (true, _, _) => Ok((Ledger::clone(&state.ledger), state.revision)),
            (false, Some(error), _) => Err(error),
            (false, None, Authority::Away { reason }) => {
                Err(StoreError::Unavailable { reason: reason.clone() })
            }
            (false, None, Authority::Own | Authority::Kubernetes) => {
                Err(StoreError::Unavailable { reason: "it was not read yet".to_owned() })
            }
        })
    }

    fn append(&self, expected: Revision, change: &Change) -> Result<Revision, StoreError> {
        let Some(kubernetes) = self.kubernetes() else { return self.append_own(expected, change) };
        let appended = kubernetes.append(expected, change);
        match &appended {
            Ok(_) => {
                self.write_state(|state| state.authority = Authority::Kubernetes);
                if let Some((ledger, revision)) = kubernetes.seen() {
                    self.remember(ledger, revision);
                }
            }
            Err(error) => self.away(error),
        }
        appended
    }
}

fn not_yet() -> Authority {
    let reason = "Kubernetes, which has the ledger, has not answered since this gateway started".to_owned();
    Authority::Away { reason }
}

#[cfg(test)]
mod tests;
