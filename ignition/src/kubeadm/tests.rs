use super::*;
use crate::fixture::{TOKEN, node, seed, site};
use crate::{KubernetesSource, KubernetesVersion, NodeSpec, RoleDetail, SitePlan};

fn at(minor: u16, plan: NodePlan) -> (NodePlan, Block) {
    let site = SitePlan {
        kubernetes: KubernetesVersion::new(1, minor, 2),
        kubernetes_source: KubernetesSource::Upstream,
        ..site()
    };
    let block = site.plan.block(plan.machine.block).unwrap();
    (NodePlan { site, ..plan }, block)
}

fn init(minor: u16) -> String {
    let RoleDetail::Seed { uplink, .. } = seed().detail else { unreachable!() };
    let (plan, block) = at(minor, seed());
    init_config(&plan, block, uplink.as_ref(), &ControlPlaneSpec::default())
}

fn join(minor: u16) -> String {
    let (plan, block) = at(minor, node());
    join_config(&plan, block, &TOKEN.parse().unwrap())
}

#[test]
fn golden_v1beta2() {
    insta::assert_snapshot!("init_v1.20", init(20));
    insta::assert_snapshot!("join_v1.20", join(20));
}

#[test]
fn golden_v1beta3() {
    insta::assert_snapshot!("init_v1.28", init(28));
    insta::assert_snapshot!("join_v1.28", join(28));
}

#[test]
fn golden_v1beta4() {
    insta::assert_snapshot!("init_v1.33", init(33));
    insta::assert_snapshot!("join_v1.33", join(33));
}

/// On a node of a cluster whose etcd has the seed as its only member.
fn control_plane(minor: u16) -> String {
    let (plan, block) = at(minor, node());
    let (first, firsts) = at(minor, seed());
    let members = [(&first.machine.name, firsts), (&plan.machine.name, block)];
    let members = members.map(|(name, block)| format!("{name}={}", etcd_peer(block)));
    control_plane_config(&plan.site, &plan.machine.name, block, &ControlPlaneSpec::default(), &members)
}

#[test]
fn golden_control_planes() {
    for minor in [20, 28, 33] {
        insta::assert_snapshot!(format!("control_plane_v1.{minor}"), control_plane(minor));
    }
}

/// What differs between the seed's documents and another control plane's is whose they are.
#[test]
fn every_control_plane_has_the_seeds_configuration() {
    for minor in [20, 28, 33] {
        let cluster = |text: &str| -> Value {
            let document = text.split("---\n").nth(1).unwrap();
            let mut cluster: Value = serde_json::from_str(document).unwrap();
            cluster["apiServer"]["certSANs"].take();
            cluster["etcd"]["local"].take();
            cluster
        };
        assert_eq!(cluster(&control_plane(minor)), cluster(&init(minor)));
    }
}

#[test]
fn every_document_is_json_of_its_version() {
    for (minor, api) in [(20, "v1beta2"), (21, "v1beta2"), (22, "v1beta3"), (30, "v1beta3"), (31, "v1beta4")]
    {
        let kinds: Vec<(String, String)> = init(minor)
            .split("---\n")
            .map(|document| serde_json::from_str::<Value>(document).unwrap())
            .map(|document| {
                let text = |key: &str| document[key].as_str().unwrap().to_owned();
                (text("apiVersion"), text("kind"))
            })
            .collect();
        let kubeadm = format!("kubeadm.k8s.io/{api}");
        let expected = [
            (kubeadm.as_str(), "InitConfiguration"),
            (kubeadm.as_str(), "ClusterConfiguration"),
            ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"),
            ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"),
        ];
        assert_eq!(kinds, expected.map(|(api, kind)| (api.to_owned(), kind.to_owned())));
    }
}

#[test]
fn what_is_wanted_of_a_node_is_in_its_registration() {
    let spec: NodeSpec = serde_json::from_str(
        r#"{"labels":{"rack":"2"},"taints":["slow:PreferNoSchedule"],"kubelet":{"max-pods":"30"}}"#,
    )
    .unwrap();
    for (minor, arguments) in [
        (20, json!({ "max-pods": "30", "node-ip": "VIP", "node-labels": "rack=2" })),
        (
            33,
            json!([
                { "name": "max-pods", "value": "30" },
                { "name": "node-labels", "value": "rack=2" },
                { "name": "node-ip", "value": "VIP" },
            ]),
        ),
    ] {
        let (plan, block) = at(minor, NodePlan { spec: spec.clone(), ..node() });
        let text = join_config(&plan, block, &TOKEN.parse().unwrap());
        let join: Value = serde_json::from_str(&text.replace(&block.vip().to_string(), "VIP")).unwrap();
        assert_eq!(join["nodeRegistration"]["kubeletExtraArgs"], arguments);
        let taint = json!([{ "key": "slow", "value": "", "effect": "PreferNoSchedule" }]);
        assert_eq!(join["nodeRegistration"]["taints"], taint);
    }
}

#[test]
fn what_is_wanted_of_the_control_plane_stands_over_what_it_has() {
    let wanted: ControlPlaneSpec = serde_json::from_str(
        r#"{"apiserver":{"v":"4"},"controllerManager":{"leader-elect-retry-period":"1s"},"etcd":{"snapshot-count":"5"}}"#,
    )
    .unwrap();
    for minor in [20, 33] {
        let (plan, block) = at(minor, seed());
        let text = init_config(&plan, block, None, &wanted);
        let cluster: Value = serde_json::from_str(text.split("---\n").nth(1).unwrap()).unwrap();
        let argument = |arguments: &Value, name: &str| -> Vec<Value> {
            let listed = arguments.as_array().into_iter().flatten();
            let listed =
                listed.filter(|argument| argument["name"] == name).map(|argument| &argument["value"]);
            listed.chain(arguments.get(name)).cloned().collect()
        };
        let manager = &cluster["controllerManager"]["extraArgs"];
        assert_eq!(argument(&cluster["apiServer"]["extraArgs"], "v"), [json!("4")]);
        assert_eq!(argument(&cluster["apiServer"]["extraArgs"], "bind-address"), [json!("::")]);
        assert_eq!(argument(manager, "leader-elect-retry-period"), [json!("1s")], "once, and not as it was");
        assert_eq!(argument(manager, "leader-elect-lease-duration"), [json!("30s")]);
        assert_eq!(argument(&cluster["etcd"]["local"]["extraArgs"], "snapshot-count"), [json!("5")]);
    }
}
