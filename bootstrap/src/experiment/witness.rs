//! Asks whoever knows: Kubernetes, a server, a node.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service, Taint};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::discovery::{self, Scope};
use kube::runtime::wait::await_condition;
use mesh::AddressPlan;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::condition::{Condition, ObjectName, Witness, routes_to};
use super::places::Places;
use super::plan::{Asker, Tainted};
use crate::ssh::{Host, Ssh};
use crate::status::Observer;

/// Whoever is asked answers soon, or not at all: what is waited for is asked again.
const LIMIT: Duration = Duration::from_secs(5);
/// A node that has much to do lets nobody in for seconds.
const SHELL_LIMIT: Duration = Duration::from_secs(20);
/// Who makes objects, as Kubernetes notes it.
const MANAGER: &str = "meshboot-experiment";
/// A node is changed by many: whoever was first is not overwritten, and it is tried again.
const TRIES: usize = 5;
/// How long an object may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(60);

/// The witnesses of one mesh.
pub(super) struct Witnesses {
    client: kube::Client,
    ssh: Ssh,
    http: reqwest::Client,
    /// The certificate of the cluster's CA.
    authority: Vec<u8>,
    addresses: BTreeMap<String, Ipv6Addr>,
    places: Places,
    /// What nodes were given here: what they had before is not taken from them.
    tainted: Vec<Tainted>,
    /// What was made here: nobody else's is removed.
    created: Vec<Value>,
}

type Said<T> = Result<T, String>;

// === impl Witnesses ===

impl Witnesses {
    /// Whose addresses are known from the beginning: an experiment may well silence who tells them.
    pub(super) async fn new(
        observer: &Observer,
        kubernetes: kube::Client,
        ssh: Ssh,
        plan: &AddressPlan,
        authority: Vec<u8>,
    ) -> Said<Self> {
        let http = client(&authority, LIMIT)?;
        let addresses = observer.addresses().await;
        let mut places = Places::default();
        for (name, address) in &addresses {
            places.insert(&format!("address:{name}"), address.to_string());
        }
        places.insert("anycast:apiserver", plan.apiserver.to_string());
        places.insert("anycast:etcd", plan.etcd.to_string());
        let (tainted, created) = (Vec::new(), Vec::new());
        Ok(Self { client: kubernetes, ssh, http, authority, addresses, places, tainted, created })
    }

    pub(super) fn ssh(&self) -> &Ssh {
        &self.ssh
    }

    pub(super) fn client(&self, timeout: Duration) -> Said<reqwest::Client> {
        client(&self.authority, timeout)
    }

    pub(super) fn host(&self, name: &str) -> Said<Host> {
        let address = self.addresses.get(name).ok_or_else(|| format!("nobody knows where {name} is"))?;
        Ok(Host { name: name.to_owned(), address: *address })
    }

    /// A text with the places of the mesh in it filled in.
    pub(super) async fn fill_in(&mut self, text: &str) -> Said<String> {
        let unknown: Vec<String> = self.places.unknown(text).map(str::to_owned).collect();
        for place in unknown {
            let Some((namespace, name)) =
                place.strip_prefix("service:").and_then(|name| name.split_once('/'))
            else {
                continue;
            };
            let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
            let service = within(services.get(name)).await?;
            let address = service.spec.and_then(|spec| spec.cluster_ip);
            self.places.insert(&place, address.ok_or_else(|| format!("{place} has no address"))?);
        }
        self.places.fill_in(text).map_err(|error| error.to_string())
    }

    /// What the witness of a condition says.
    pub(super) async fn ask(&mut self, condition: &Condition) -> Witness {
        let said = match condition {
            Condition::Node { name, .. } => self.node(name).await,
            Condition::Pods { labels, namespace, .. } => self.pods(labels, namespace).await,
            Condition::Field { object, .. } => self.object(object).await.map(Witness::Object),
            Condition::Api { .. } => self.api().await,
            Condition::Http { url, from, .. } => self.http(url, from).await,
            Condition::Route { node, to, .. } => self.routes(node, to).await,
            Condition::Calm { probe, .. } => Err(format!("nobody but the probe `{probe}` itself knows")),
        };
        said.unwrap_or_else(Witness::Silent)
    }

    async fn node(&self, name: &str) -> Said<Witness> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = within(nodes.get_opt(name)).await?;
        Ok(Witness::Object(node.map(json).transpose()?))
    }

    async fn pods(&self, labels: &str, namespace: &str) -> Said<Witness> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let list = within(pods.list(&ListParams::default().labels(labels))).await?;
        Ok(Witness::Object(Some(json(list)?)))
    }

    async fn api(&self) -> Said<Witness> {
        let request = axum::http::Request::get("/readyz").body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        within(self.client.request_text(request)).await.map(|_| Witness::Answered(200))
    }

    async fn http(&mut self, url: &str, from: &Asker) -> Said<Witness> {
        let url = self.fill_in(url).await?;
        match from {
            Asker::Host => {
                let answer = self.http.get(&url).send().await.map_err(|error| chain(&error))?;
                Ok(Witness::Answered(answer.status().as_u16()))
            }
            Asker::Node(name) => {
                let script = curl(&url, LIMIT);
                let said = self.ssh.outcome(&self.host(name)?, &script, SHELL_LIMIT).await;
                let said = said.map_err(|error| chain(&error))?;
                match said.stdout.split_whitespace().next().and_then(|word| word.parse().ok()) {
                    Some(0) | None => Err(format!("{url} does not answer {name}")),
                    Some(status) => Ok(Witness::Answered(status)),
                }
            }
        }
    }

    async fn routes(&mut self, node: &str, to: &str) -> Said<Witness> {
        let to = self.fill_in(to).await?;
        let address: Ipv6Addr = to.parse().map_err(|_| format!("`{to}` is no IPv6 address"))?;
        let said = self.ssh.run(&self.host(node)?, "ip -j -6 route show", SHELL_LIMIT).await;
        let said = said.map_err(|error| chain(&error))?;
        let routes: Vec<Value> = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        Ok(Witness::Routes(routes_to(address, &routes)))
    }

    /// The object of this name; none if it is not there.
    async fn object(&self, name: &ObjectName) -> Said<Option<Value>> {
        let resource = self.resource(&name.kind).await?;
        let api = self.dynamic(&resource, Some(&name.namespace));
        within(api.get_opt(&name.name)).await?.map(json).transpose()
    }

    /// Gives a node a taint.
    pub(super) async fn taint(&mut self, tainted: &Tainted) -> Said<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = within(nodes.get(&tainted.node)).await?;
        let mut taints = node.spec.and_then(|spec| spec.taints).into_iter().flatten();
        if taints.any(|taint| tainted.is(&taint)) {
            return Err(format!("{} has the taint {} already", tainted.node, tainted.taint));
        }
        self.tainted.push(tainted.clone());
        self.change_taints(&tainted.node, |taints| {
            taints.retain(|taint| !tainted.is(taint));
            taints.push(Taint {
                key: tainted.taint.key.clone(),
                value: Some(tainted.taint.value.clone()).filter(|value| !value.is_empty()),
                effect: tainted.taint.effect.to_string(),
                time_added: None,
            });
        })
        .await
    }

    /// Takes a taint from a node that it was given by [`Self::taint`].
    pub(super) async fn untaint(&mut self, tainted: &Tainted) -> Said<()> {
        let Some(at) = self.tainted.iter().position(|given| given == tainted) else { return Ok(()) };
        self.change_taints(&tainted.node, |taints| taints.retain(|taint| !tainted.is(taint))).await?;
        self.tainted.remove(at);
        Ok(())
    }

    async fn change_taints(&self, node: &str, change: impl Fn(&mut Vec<Taint>)) -> Said<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut refused = String::new();
        for _ in 0..TRIES {
            let found = within(nodes.get(node)).await?;
            let mut taints = found.spec.and_then(|spec| spec.taints).unwrap_or_default();
            change(&mut taints);
            let version = found.metadata.resource_version;
            let wanted = json!({ "metadata": { "resourceVersion": version }, "spec": { "taints": taints } });
            match within(nodes.patch(node, &PatchParams::default(), &Patch::Merge(wanted))).await {
                Ok(_) => return Ok(()),
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    /// Makes an object. One that is there already is somebody's, who wants to have it back as it was.
    pub(super) async fn create(&mut self, object: &Value) -> Said<()> {
        let (api, name) = self.api_of(object).await?;
        let wanted: DynamicObject =
            serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        if within(api.get_opt(&name)).await?.is_some() {
            return Err(format!("{name} is there already"));
        }
        // Whoever does not answer may have made it.
        self.created.push(object.clone());
        let by = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        within(api.create(&by, &wanted)).await.map(drop)
    }

    /// Removes an object that was made by [`Self::create`], and waits until it is gone. One that is gone is no mistake.
    pub(super) async fn remove(&mut self, object: &Value) -> Said<()> {
        let Some(at) = self.created.iter().position(|created| created == object) else { return Ok(()) };
        let (api, name) = self.api_of(object).await?;
        // Pods of a node that is away would go when it is back; nobody waits for that.
        let at_once = DeleteParams::background().grace_period(0);
        match within(api.delete(&name, &at_once)).await {
            Ok(_) => {}
            Err(reason) if within(api.get_opt(&name)).await.is_ok_and(|found| found.is_none()) => {
                tracing::debug!(reason, "it was gone already");
            }
            Err(reason) => return Err(format!("cannot remove {name}: {reason}")),
        }
        let gone = await_condition(api, &name, |object: Option<&DynamicObject>| object.is_none());
        // It was told to go; that it takes long is nobody's mistake.
        let _ = timeout(GONE_LIMIT, gone).await;
        self.created.remove(at);
        Ok(())
    }

    async fn api_of(&self, object: &Value) -> Said<(Api<DynamicObject>, String)> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (group, version) =
            text("/apiVersion").rsplit_once('/').unwrap_or_else(|| ("", text("/apiVersion")));
        let kind = GroupVersionKind::gvk(group, version, text("/kind"));
        let (resource, capabilities) = within(discovery::pinned_kind(&self.client, &kind)).await?;
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
        let namespace = (capabilities.scope == Scope::Namespaced).then_some(namespace);
        Ok((self.dynamic(&(resource, namespace.is_some()), namespace), text("/metadata/name").to_owned()))
    }

    fn dynamic(
        &self,
        (resource, namespaced): &(ApiResource, bool),
        namespace: Option<&str>,
    ) -> Api<DynamicObject> {
        match namespace.filter(|_| *namespaced) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }

    /// The resource that a kind's name means, as kubectl takes it: `deployment`, `Deployment`, `deployments`.
    async fn resource(&self, kind: &str) -> Said<(ApiResource, bool)> {
        let all = within(kube::Discovery::new(self.client.clone()).run()).await?;
        let is_it = |resource: &ApiResource| {
            resource.kind.eq_ignore_ascii_case(kind) || resource.plural.eq_ignore_ascii_case(kind)
        };
        let resources = all.groups().flat_map(|group| group.recommended_resources());
        let found = resources.into_iter().find(|(resource, _)| is_it(resource));
        let (resource, capabilities) = found.ok_or_else(|| format!("Kubernetes has no `{kind}`"))?;
        Ok((resource, capabilities.scope == Scope::Namespaced))
    }
}

// === impl Tainted ===

impl Tainted {
    /// Whether a node's taint is this one: of one key and effect a node has one.
    fn is(&self, taint: &Taint) -> bool {
        taint.key == self.taint.key && taint.effect == self.taint.effect.to_string()
    }
}

/// A client that trusts the cluster's own authority, and has a new connection for each question.
pub(super) fn client(authority: &[u8], timeout: Duration) -> Said<reqwest::Client> {
    let failed = |error: reqwest::Error| format!("HTTP cannot be set up: {}", chain(&error));
    let authority = reqwest::Certificate::from_pem(authority).map_err(failed)?;
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(timeout);
    client.tls_certs_only([authority]).build().map_err(failed)
}

/// Has curl tell a status and how long that took: `200 0.012`, `000 0.000` for no answer.
pub(super) fn curl(url: &str, limit: Duration) -> String {
    let quoted = url.replace('\'', "%27");
    format!(
        "curl -gsS --cacert /etc/kubernetes/pki/ca.crt -o /dev/null -w '%{{http_code}} %{{time_total}}\\n' --max-time {} '{quoted}' 2>/dev/null || :",
        limit.as_secs_f64()
    )
}

async fn within<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Said<T> {
    match timeout(LIMIT, asked).await {
        Ok(Ok(said)) => Ok(said),
        Ok(Err(error)) => Err(format!("the API server: {}", chain(&error))),
        Err(_) => Err(format!("the API server is silent for {} s", LIMIT.as_secs())),
    }
}

fn json(value: impl serde::Serialize) -> Said<Value> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// The whole chain of reasons on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
