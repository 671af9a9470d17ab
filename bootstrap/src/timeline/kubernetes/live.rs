//! Watches nodes and pods while something is done to them: what an experiment has beside its faults.
//!
//! [`Known`] is the core: it takes what a watch tells and gives what became of the objects. What it hears first is how
//! things stand and no change; after a watch that was interrupted it compares what is there with what was.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Api;
use kube::runtime::watcher::{self, Config, InitialListStrategy, watcher};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Told, node_changes, pod_changes, ready_condition};
use crate::timeline::entry::Entry;
use crate::timeline::micros;

/// Recorded at most; what is told after that is lost, and said to be.
pub const MAX_ENTRIES: usize = 100_000;
/// A watch that failed is begun anew after this. Short: an API server that is away is what is being studied.
const RETRY: Duration = Duration::from_millis(500);
/// A watch that the API server has left without a word is found out after this, in seconds; 5 more for it to end.
const SILENCE: u32 = 20;

/// What was watched, from when until when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// When all was known, in microseconds since 1970; none if that never was.
    pub from: Option<u64>,
    /// Whether each node was Ready then.
    pub ready: BTreeMap<String, bool>,
    /// The changes, in the order in which they were heard of.
    pub entries: Vec<Entry>,
}

/// Watches a cluster until it is dropped, or told to finish.
#[derive(Debug)]
pub struct Recorder {
    tasks: JoinSet<()>,
    recording: watch::Sender<Recording>,
}

/// The objects of one kind that are known.
#[derive(Debug)]
pub struct Known<K> {
    objects: BTreeMap<String, K>,
    /// Those of a list that is being read, if one is.
    listed: Option<BTreeMap<String, K>>,
    /// Whether a whole list was read.
    complete: bool,
    changes: fn(Option<&K>, Option<&K>) -> Vec<Told>,
}

// === impl Known ===

impl<K: ResourceExt + Clone> Known<K> {
    /// Nothing is known yet; `changes` compares an object with what it was.
    #[must_use]
    pub fn new(changes: fn(Option<&K>, Option<&K>) -> Vec<Told>) -> Self {
        Self { objects: BTreeMap::new(), listed: None, complete: false, changes }
    }

    /// Whether all is known that there is.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Those that are known.
    pub fn objects(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
    }

    /// Takes what the watch tells; gives what became of the objects.
    pub fn handle(&mut self, event: watcher::Event<K>) -> Vec<Told> {
        match event {
            watcher::Event::Init => {
                self.listed = Some(BTreeMap::new());
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                self.listed.get_or_insert_default().insert(key(&object), object);
                Vec::new()
            }
            watcher::Event::InitDone => self.handle_list(),
            watcher::Event::Apply(object) => {
                let key = key(&object);
                let told = (self.changes)(self.objects.get(&key), Some(&object));
                self.objects.insert(key, object);
                told
            }
            watcher::Event::Delete(object) => {
                let known = self.objects.remove(&key(&object));
                // What it was at last may be news as well.
                let mut told = (self.changes)(known.as_ref(), Some(&object));
                told.extend((self.changes)(Some(&object), None));
                told
            }
        }
    }

    fn handle_list(&mut self) -> Vec<Told> {
        let listed = self.listed.take().unwrap_or_default();
        let before = std::mem::replace(&mut self.objects, listed);
        if !std::mem::replace(&mut self.complete, true) {
            return Vec::new();
        }
        let gone = before.iter().filter(|(key, _)| !self.objects.contains_key(*key));
        let mut told: Vec<Told> = gone.flat_map(|(_, old)| (self.changes)(Some(old), None)).collect();
        for (key, new) in &self.objects {
            told.extend((self.changes)(before.get(key), Some(new)));
        }
        told
    }
}

/// One that was made again under the same name is another one.
fn key<K: ResourceExt>(object: &K) -> String {
    let uid = object.uid().unwrap_or_default();
    format!("{}/{} {uid}", object.namespace().unwrap_or_default(), object.name_any())
}

// === impl Recorder ===

impl Recorder {
    /// Begins to watch. Nothing is recorded before all is known: see [`ready`](Self::ready).
    #[must_use]
    pub fn start(client: &Client) -> Self {
        let recording = watch::Sender::new(Recording::default());
        let (nodes, nodes_known) = watch::channel(false);
        let (pods, pods_known) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let (api, into) = (Api::<Node>::all(client.clone()), recording.clone());
        tasks.spawn(async move { follow(api, Known::new(node_changes), is_ready, &nodes, &into).await });
        let (api, into) = (Api::<Pod>::all(client.clone()), recording.clone());
        tasks.spawn(async move { follow(api, Known::new(pod_changes), |_| None, &pods, &into).await });
        let into = recording.clone();
        tasks.spawn(async move {
            for mut known in [nodes_known, pods_known] {
                // Whoever knew is never told to forget.
                let _ended = known.wait_for(|known| *known).await;
            }
            into.send_modify(|recording| recording.from = Some(micros()));
        });
        Self { tasks, recording }
    }

    /// Waits until all is known, for so long at most. What happens from then on is recorded.
    pub async fn ready(&self, limit: Duration) -> bool {
        let mut recording = self.recording.subscribe();
        let known = recording.wait_for(|recording| recording.from.is_some());
        matches!(tokio::time::timeout(limit, known).await, Ok(Ok(_)))
    }

    /// What was recorded, now and whenever there is more.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Recording> {
        self.recording.subscribe()
    }

    /// Ends the watch.
    pub async fn finish(mut self) -> Recording {
        self.tasks.shutdown().await;
        self.recording.borrow().clone()
    }
}

async fn follow<K>(
    api: Api<K>,
    mut known: Known<K>,
    ready: fn(&K) -> Option<(String, bool)>,
    complete: &watch::Sender<bool>,
    recording: &watch::Sender<Recording>,
) where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // Kubernetes 1.20 knows of no list that is streamed.
    let config = Config { initial_list_strategy: InitialListStrategy::ListWatch, ..Config::default() };
    let mut events = pin!(watcher(api, config.timeout(SILENCE)));
    while let Some(event) = events.next().await {
        let at = micros();
        match event {
            Ok(event) => {
                let told = known.handle(event);
                if known.is_complete() && !*complete.borrow() {
                    recording
                        .send_modify(|recording| recording.ready.extend(known.objects().filter_map(ready)));
                    complete.send_replace(true);
                }
                let entries = told.into_iter();
                let entries = entries.map(|(machine, change)| Entry::of_kubernetes(at, 0, machine, change));
                record(recording, entries.collect());
            }
            Err(error) => {
                tracing::debug!("a watch of Kubernetes was interrupted: {:#}", anyhow::Error::new(error));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn is_ready(node: &Node) -> Option<(String, bool)> {
    Some((node.name_any(), ready_condition(node)?.status == "True"))
}

fn record(recording: &watch::Sender<Recording>, entries: Vec<Entry>) {
    if entries.is_empty() {
        return;
    }
    recording.send_modify(|recording| {
        let room = MAX_ENTRIES.saturating_sub(recording.entries.len());
        if room < entries.len() {
            tracing::warn!("more happens in Kubernetes than can be recorded");
        }
        recording.entries.extend(entries.into_iter().take(room));
    });
}

#[cfg(test)]
mod tests;
