//! What is waited for.

use super::super::condition::{Condition, FieldPath, FieldValue, ObjectName, PodPlace, Witness, routes_to};
use super::super::plan::Asker;
use super::*;

fn node(status: &str) -> Witness {
    let ready = json!({"type": "Ready", "status": status, "message": "Kubelet stopped posting node status."});
    Witness::Object(Some(
        json!({"status": {"conditions": [{"type": "DiskPressure", "status": "False"}, ready]}}),
    ))
}

fn pod(name: &str, on: &str, ready: bool, going: bool) -> Value {
    let mut pod = json!({
        "metadata": {"name": name}, "spec": {"nodeName": on},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    if going {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-29T20:02:11Z");
    }
    pod
}

#[test]
fn nodes_are_ready_or_not() {
    let is = |ready| Condition::Node { name: "node1".to_owned(), ready };
    assert_eq!(is(true).holds(&node("True")), Ok(()));
    // Unknown is what a node is whose kubelet is silent.
    for status in ["False", "Unknown"] {
        assert_eq!(is(false).holds(&node(status)), Ok(()));
        assert!(is(true).holds(&node(status)).unwrap_err().contains("stopped posting"));
    }
    assert_eq!(is(false).holds(&node("True")), Err("node1 is Ready".to_owned()));
    assert_eq!(is(true).holds(&Witness::Object(None)), Err("there is no node node1".to_owned()));
    // Who says nothing says neither.
    for ready in [true, false] {
        let silent = Witness::Silent("the API server is silent".to_owned());
        assert_eq!(is(ready).holds(&silent), Err("the API server is silent".to_owned()));
    }
}

#[test]
fn pods_count_where_they_are_to_run_unless_they_are_to_go() {
    let pods = Witness::Object(Some(json!({"items": [
        pod("old", "node1", true, true), pod("new", "node2", true, false), pod("slow", "node3", false, false),
    ]})));
    let run = |running, place| {
        let (labels, namespace) = ("app=web".to_owned(), "default".to_owned());
        Condition::Pods { labels, namespace, running, place }.holds(&pods)
    };
    assert_eq!(run(1, PodPlace::Anywhere), Ok(()));
    assert_eq!(run(1, PodPlace::On("node2".to_owned())), Ok(()));
    assert_eq!(run(1, PodPlace::Elsewhere("node1".to_owned())), Ok(()));
    let reason = run(1, PodPlace::On("node1".to_owned())).unwrap_err();
    assert!(
        reason.contains("0 of 1 pods run on node1") && reason.contains("old is Running on node1, is to go"),
        "{reason}"
    );
    assert!(run(2, PodPlace::Anywhere).unwrap_err().contains("1 of 2"));
    assert!(run(1, PodPlace::Elsewhere("node2".to_owned())).is_err());
}

#[test]
fn fields_are_found_as_kubectl_finds_them() {
    let object = json!({
        "metadata": {"name": "web"}, "status": {"readyReplicas": 2},
        "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]},
    });
    let field = |path: &str, equals: FieldValue| {
        let name = ObjectName {
            kind: "deployment".to_owned(),
            name: "web".to_owned(),
            namespace: "default".to_owned(),
        };
        let path = FieldPath::new(path).unwrap();
        Condition::Field { object: name, path, value: equals }.holds(&Witness::Object(Some(object.clone())))
    };
    let is = |path: &str, text: &str| field(path, FieldValue::Is(text.to_owned()));
    let contains = |path: &str, text: &str| field(path, FieldValue::Contains(text.to_owned()));
    for (path, equals) in [
        ("{.status.readyReplicas}", "2"),
        (".status.readyReplicas", "2"),
        ("{.metadata.name}", "web"),
        ("{.spec.containers[1].image}", "y"),
        ("{.spec.containers[?(@.name=='a')].image}", "x"),
        ("{.spec.containers[*].name}", "b"),
    ] {
        assert_eq!(is(path, equals), Ok(()), "{path}");
    }
    assert_eq!(is("{.status.readyReplicas}", "3"), Err("{.status.readyReplicas} is 2".to_owned()));
    assert_eq!(is("{.status.replicas}", "3"), Err("{.status.replicas} is nothing".to_owned()));
    assert_eq!(contains("{.metadata.name}", "e"), Ok(()));
    assert_eq!(is("{.metadata.name}", "e"), Err("{.metadata.name} is web".to_owned()));
    assert_eq!(contains("{.metadata.name}", "x"), Err("{.metadata.name} is web".to_owned()));
    assert!(FieldPath::new("{.status[}").unwrap_err().to_string().contains("{.status[}"));
}

#[test]
fn servers_answer_or_do_not() {
    let http = |answers| Condition::Http { url: "http://x/".to_owned(), from: Asker::Host, answers };
    let silent = Witness::Silent("nobody listens".to_owned());
    for (answers, witness, holds) in [
        (true, Witness::Answered(204), true),
        (true, Witness::Answered(503), false),
        (true, silent.clone(), false),
        (false, Witness::Answered(200), false),
        (false, Witness::Answered(503), true),
        (false, silent.clone(), true),
    ] {
        assert_eq!(http(answers).holds(&witness).is_ok(), holds, "{answers} {witness:?}");
        assert_eq!(Condition::Api { answers }.holds(&witness).is_ok(), holds, "{answers} {witness:?}");
    }
}

#[test]
fn a_probe_is_calm_when_it_was_answered_for_long_enough() {
    let calm = Condition::Calm { probe: "web".to_owned(), time: Duration::from_secs(10) };
    assert_eq!(calm.holds(&Witness::Calm(Duration::from_secs(10))), Ok(()));
    let reason = calm.holds(&Witness::Calm(Duration::from_secs(9))).unwrap_err();
    assert_eq!(reason, "web was answered without a gap for 9 s, and 10 are wanted");
    assert_eq!(calm.holds(&Witness::Silent("no".to_owned())), Err("no".to_owned()));
}

#[test]
fn a_default_route_leads_to_nobody_in_particular() {
    let routes = ["default", "2001:db8::/119", "2001:db8::400/119", "2001:db8::901"];
    let mut routes = routes.map(|net| json!({"dst": net, "gateway": "fe80::1", "dev": "enp1s0"})).to_vec();
    routes.push(json!({"type": "unreachable", "dst": "2001:db8::/64", "dev": "lo"}));
    let to = |address: &str| routes_to(address.parse().unwrap(), &routes);
    assert_eq!((to("2001:db8::401").len(), to("2001:db8::901").len()), (1, 1));
    assert!(to("2001:db8::801").is_empty(), "it is of the mesh, and nobody has it");
    let route = |present| Condition::Route { node: "seed".to_owned(), to: "x".to_owned(), present };
    let (some, none) = (Witness::Routes(to("2001:db8::1")), Witness::Routes(Vec::new()));
    assert!(route(true).holds(&some).is_ok() && route(false).holds(&none).is_ok());
    assert!(route(true).holds(&none).is_err() && route(false).holds(&some).is_err());
    // Whoever cannot be asked has said nothing of routes.
    assert!(route(false).holds(&Witness::Silent("no shell".to_owned())).is_err());
}
