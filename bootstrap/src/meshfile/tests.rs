use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::cli::mesh::Specs;

mod changes;
mod round_trip;

const HEAD: &str = "apiVersion: meshboot.io/v1alpha1\nkind: Mesh\n";

fn plan_of(text: &str) -> Result<MeshPlan, Mistakes> {
    let draft = Draft::parse("mesh.yaml", text);
    draft.plan(draft.settings_over(Raw::default())).map(|(plan, _)| plan)
}

fn good(text: &str) -> MeshPlan {
    plan_of(text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}

fn of_flags(count: u16, specs: &Specs) -> Result<MeshPlan, Mistakes> {
    let draft = Draft::of_machines(count).with_specs(specs);
    draft.plan(draft.settings_over(Raw::default())).map(|(plan, _)| plan)
}

/// The machines' names with what `look` sees of each, the seed first.
fn machines<T>(plan: &MeshPlan, look: impl Fn(&crate::deployment::WantedMachine) -> T) -> Vec<(String, T)> {
    plan.wanted.machines.iter().map(|machine| (machine.name.to_string(), look(machine))).collect()
}

fn documentation() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn examples() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(documentation().join("examples")).unwrap();
    let mut examples: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect();
    examples.sort();
    assert!(examples.len() >= 3, "there are examples: {examples:?}");
    examples
}

#[test]
fn small_files_stay_small() {
    let plan = good(&format!("{HEAD}machines: [{{role: seed}}, {{count: 4}}]\n"));
    let sizes = machines(&plan, |machine| (machine.memory_mib, machine.cpus));
    let small = |name: &str| (name.to_owned(), (2048, None));
    let seed = ("seed".to_owned(), (3072, None));
    assert_eq!(sizes, [seed, small("node1"), small("node2"), small("node3"), small("node4")]);
    assert_eq!(plan.wanted.cables, hardware::topology::cables(hardware::Shape::Grid, 4));
    assert_eq!(plan.wanted, of_flags(4, &Specs::default()).unwrap().wanted, "as without a file");
}

#[test]
fn names_are_given_where_there_are_none() {
    let plan = good(&format!(
        "{HEAD}machines: [{{count: 2}}, {{name: node2}}, {{name: big, count: 2}}, {{}}, {{name: s, role: seed}}]\n"
    ));
    let names: Vec<String> = machines(&plan, |_| ()).into_iter().map(|(name, ())| name).collect();
    assert_eq!(names, ["s", "node1", "node3", "node2", "big1", "big2", "node4"]);
}

#[test]
fn json_is_a_mesh_too() {
    let text =
        json!({ "apiVersion": API_VERSION, "kind": KIND, "machines": [{ "role": "seed" }, { "count": 4 }] });
    assert_eq!(good(&text.to_string()).wanted, of_flags(4, &Specs::default()).unwrap().wanted);
}

#[test]
fn cables_go_where_they_are_told_and_else_into_free_ports() {
    let plan = good(&format!(
        "{HEAD}machines: [{{role: seed}}, {{count: 3}}]\ncables: [node3 - node1, node1:0 - seed, node2 - node1:2]\n"
    ));
    let name = |end: hardware::End| {
        format!("{}:{}", plan.wanted.machines[usize::from(end.machine.0)].name, end.port)
    };
    let cables: Vec<String> = plan
        .wanted
        .cables
        .iter()
        .map(|cable| format!("{} {} - {}", cable.number, name(cable.near), name(cable.far)))
        .collect();
    assert_eq!(cables, ["1 seed:0 - node1:0", "2 node1:1 - node3:0", "3 node1:2 - node2:0"]);
}

#[test]
fn what_holds_for_all_stands_under_what_is_said_of_one() {
    let plan = good(&format!(
        "{HEAD}defaults:\n  memory: 1GiB\n  ports: 2\n  labels: {{a: x, b: x}}\n  taints: [a:NoSchedule, b=1:NoExecute]\n\
         machines:\n- role: seed\n- name: one\n  memory: 4GiB\n  labels: {{b: y}}\n  taints: [b=2:NoExecute]\n- name: two\n\
         topology: line\n"
    ));
    let told = machines(&plan, |machine| {
        let labels: Vec<String> =
            machine.node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let taints: Vec<String> = machine.node.taints.iter().map(ToString::to_string).collect();
        (machine.memory_mib, machine.ports, labels.join(" "), taints.join(" "))
    });
    let told: Vec<String> = told.iter().map(|machine| format!("{machine:?}")).collect();
    assert_eq!(
        told,
        [
            r#"("seed", (3072, 4, "", ""))"#,
            r#"("one", (4096, 2, "a=x b=y", "a:NoSchedule b=2:NoExecute"))"#,
            r#"("two", (1024, 2, "a=x b=x", "a:NoSchedule b=1:NoExecute"))"#,
        ]
    );
    let settings = plan.settings.resolved();
    assert_eq!(
        settings["libvirt.memory"].as_str(),
        Some("1GiB"),
        "machines that are added later have it, too"
    );
    assert_eq!(settings["libvirt.topology"].as_str(), Some("line"));
}

#[test]
fn flags_say_what_a_file_says() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let specs = Specs {
        memory: words(&["1GiB", "node2:4GiB", "seed:5GiB"]),
        cpus: words(&["node1:3"]),
        disk_size: words(&["20GiB"]),
        ports: words(&["node2:6"]),
        label: words(&["size=small", "node2:size=big", "node2:example.com/rack="]),
        taint: words(&["node2:dedicated=db:NoSchedule", "slow:PreferNoSchedule"]),
        feature_gates: words(&["A=true,B=false", "node1:A=false"]),
        image: words(&["0123456789abcdef", "node2:fedcba9876543210"]),
        kubernetes_version: words(&["v1.33.7", "node1:1.34.2"]),
        extra_config: words(&[
            "kubelet.max-pods=30",
            "node2:kubelet.v=4",
            "apiserver.v=2",
            "controller-manager.v=a=b:c",
        ]),
        ..Specs::default()
    };
    let file = good(&format!(
        "{HEAD}defaults:\n  memory: 1GiB\n  disk: 20GiB\n  image: 0123456789abcdef\n  kubernetesVersion: v1.33.7\n  labels: {{size: small}}\n  taints: [slow:PreferNoSchedule]\n  \
         featureGates: {{A: true, B: false}}\n  kubelet: {{max-pods: 30}}\nmachines:\n- role: seed\n  memory: 5GiB\n- name: \
         node1\n  cpus: 3\n  kubernetesVersion: v1.34.2\n  featureGates: {{A: false}}\n- name: node2\n  image: fedcba9876543210\n  memory: 4GiB\n  ports: 6\n  labels: {{size: big, \
         example.com/rack: ''}}\n  taints: [dedicated=db:NoSchedule]\n  kubelet: {{v: 4}}\nextraConfig:\n  apiserver: {{v: \
         2}}\n  controllerManager: {{v: 'a=b:c'}}\n"
    ));
    assert_eq!(of_flags(2, &specs).unwrap(), file);
}

#[test]
fn control_planes_are_those_that_say_so_and_then_those_next_to_the_seed() {
    let chosen = |text: &str| -> String {
        let plan = good(&format!("{HEAD}{text}"));
        let told = machines(&plan, |machine| (machine.node.control_plane, machine.memory_mib));
        let chosen = told.into_iter().filter(|(_, (is_one, _))| *is_one);
        chosen.map(|(name, (_, memory))| format!("{name} {memory}")).collect::<Vec<_>>().join(", ")
    };
    let four = "machines: [{role: seed}, {count: 4}]\n";
    assert_eq!(chosen(&format!("{four}controlPlanes: 1\n")), "");
    assert_eq!(chosen(&format!("{four}controlPlanes: 3\ntopology: line\n")), "node1 3072, node2 3072");
    assert_eq!(chosen(&format!("{four}controlPlanes: 3\ntopology: ring\n")), "node1 3072, node4 3072");
    let settings = "settings: {libvirt: {seed-memory: 4GiB}}\ndefaults: {memory: 5GiB}\n";
    assert_eq!(chosen(&format!("{four}controlPlanes: 3\n{settings}")), "node1 5120, node2 5120");
    let told = "machines:\n- role: seed\n- {name: a, role: worker}\n- {name: b, memory: 1GiB}\n- {name: c, role: control-plane}\n";
    assert_eq!(chosen(&format!("{told}topology: line\n")), "c 3072");
    assert_eq!(chosen(&format!("{told}topology: line\ncontrolPlanes: 3\n")), "b 1024, c 3072");

    let specs = Specs { control_planes: Some(3), role: vec!["node1:worker".to_owned()], ..Specs::default() };
    let file =
        good(&format!("{HEAD}machines:\n- role: seed\n- role: worker\n- count: 3\ncontrolPlanes: 3\n"));
    assert_eq!(of_flags(4, &specs).unwrap(), file);
    let one = Specs { role: vec!["node2:control-plane".to_owned()], ..Specs::default() };
    let plan = of_flags(2, &one).unwrap();
    assert_eq!(machines(&plan, |machine| machine.node.control_plane)[2], ("node2".to_owned(), true));
    // It is shown machine by machine, so that it stays true when one more comes.
    let shown = file.to_yaml();
    assert!(shown.contains("role: control-plane") && !shown.contains("controlPlanes"), "{shown}");
}

#[test]
fn mistakes_of_flags_name_the_flag() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let specs = Specs {
        memory: words(&["2GX", "node1:1MiB", "node7:2GiB"]),
        cpus: words(&["node1:1", "node1:2"]),
        ports: words(&["many", "node1:9"]),
        control_planes: Some(5),
        role: words(&["worker", "node1:boss", "node9:worker", "seed:worker", "node1:worker", "node1:worker"]),
        image: words(&["latest", "seed:0123456789abcdef"]),
        kubernetes_version: words(&["newest", "node1:v1.34", "node2:v1.30.0", "node2:v1.31.0"]),
        label: words(&["size", "-a=b", "node1:kubernetes.io/os=linux"]),
        taint: words(&["a:Never", "node1:a"]),
        feature_gates: words(&["A=on", "A-B=true"]),
        extra_config: words(&[
            "max-pods=3",
            "kubelet.node-ip=::1",
            "proxy.v=1",
            "node1:etcd.v=1",
            "etcd.data-dir=/",
        ]),
        ..Specs::default()
    };
    insta::assert_snapshot!(of_flags(2, &specs).unwrap_err().to_string());
}

/// What is wrong with files, and how that is told: each file, and then what is said of it.
#[test]
fn every_mistake_is_told_with_its_line() {
    let mesh = |rest: &str| format!("{HEAD}{rest}");
    let machines = "machines: [{role: seed}, {count: 2}]\n";
    let cases = [
        String::new(),
        "just words".to_owned(),
        "- a list".to_owned(),
        "apiVersion: meshboot.io/v1alpha1\nkind: Mesh\nmachines: [\n".to_owned(),
        "apiVersion: meshboot.io/v1beta1\nkind: Mesh\nfleet: 1\n".to_owned(),
        "kind: Mesh\n".to_owned(),
        "apiVersion: meshboot.io/v1alpha1\nkind: Cluster\n".to_owned(),
        "apiVersion: 1\nkind: Mesh\n".to_owned(),
        mesh(""),
        mesh("machines:\n"),
        mesh("machines: none\n"),
        mesh("machines: []\n"),
        mesh("machines: [{count: 2}]\n"),
        mesh("machines:\n- name: a\n  role: seed\n- name: b\n  role: seed\n"),
        mesh("machines:\n- role: seed\n- name: a\n- name: a\n- name: a1\n- name: a\n  count: 2\n"),
        mesh("machines:\n- role: seed\n- name: Node_1\n- name: -a\n- name: 12\n- name: ''\n- seed\n"),
        mesh(
            "machines:\n- role: seed\n  count: 2\n  disk: 10GiB\n- count: 0\n- count: 501\n- count: two\n- role: boss\n",
        ),
        mesh("machines:\n- {role: seed, count: 1}\n- {count: 300}\n- {count: 300, name: a}\n"),
        mesh(
            "machines:\n- role: seed\n- memory: 256MiB\n  cpus: 0\n  disk: 5\n  ports: 9\n- memory: 2GX\n  cpus: [1]\n  ports: a\n",
        ),
        mesh(
            "machines:\n- role: seed\n  memroy: 2GiB\n  image: v1.2\n  wings: 2\nnodes: []\ncni: none\ncabels: []\n",
        ),
        mesh("name: Lab\nmachines: [{role: seed}]\nname: lab\n"),
        mesh(&format!(
            "{machines}cables:\n- seed - node1\n- node1 - node9\n- node2\n- node1:0 - node1:1\n- {{from: node2}}\n- {{form: a, to: b}}\n- 5\n"
        )),
        mesh(&format!(
            "{machines}cables:\n- seed:0 - node1:0\n- seed:0 - node2:4\n- node1:x - node2\n- node1: node2\n"
        )),
        mesh(&format!("{machines}cables: [seed - node1]\n")),
        mesh("defaults: {ports: 1}\nmachines: [{role: seed}, {count: 2}]\ntopology: line\n"),
        mesh("machines: [{role: seed}, {count: 2, ports: 1}]\ncables: [seed - node1, node1 - node2]\n"),
        mesh(&format!("{machines}cables: [seed - node1, seed - node2]\ntopology: line\n")),
        mesh(&format!("{machines}topology: star\n")),
        mesh(&format!("{machines}controlPlanes: 2\n")),
        mesh(&format!("{machines}controlPlanes: 5\n")),
        mesh("machines: [{role: seed}, {count: 2, role: control-plane}]\ncontrolPlanes: 1\n"),
        mesh(
            "defaults:\n  labels: {-a: b, a: b c, kubernetes.io/os: linux, c: 1, d: true, e: [x]}\n  taints: [a, 'a:b', 'a=b c:NoSchedule', {a: b}]\nmachines:\n- role: seed\n",
        ),
        mesh(
            "machines:\n- role: seed\n  featureGates: {A: on, B-C: true}\n  kubelet: {--v: 4, node-ip: '::1', max-pods: [1]}\n",
        ),
        mesh(&format!(
            "{machines}extraConfig:\n  apiserver: {{Etcd: x, advertise-address: '::1'}}\n  proxy: {{v: 1}}\n  etcd: v\n"
        )),
        mesh(&format!(
            "{machines}settings:\n  site: {{nameservers: [x], id: a}}\n  libvirt: {{memory: 2GX, memroy: 1}}\n  adresses: {{}}\n  mirrors: all\n"
        )),
        mesh(&format!(
            "{machines}settings: {{libvirt: {{memory: 1GiB, topology: grid}}}}\ndefaults: {{memory: 2GiB}}\ntopology: line\n"
        )),
        mesh("machines:\n- role: seed\n- &a {name: a}\n- *a\n- *b\n- !x {name: b}\n"),
        mesh(
            "defaults: {kubernetesVersion: v1.35.0}\nsettings: {kubernetes: {source: v1.34.2}}\nmachines:\n- role: seed\n  kubernetesVersion: v1.30.9\n- kubernetesVersion: 1.33\n- kubernetesVersion: v1.33\n- kubernetesVersion: v1.31.0\n",
        ),
        mesh(&format!("{machines}kubernetesVersion: v1.33.0\n")),
        mesh("machines: [{role: seed}]\n---\nmachines: []\n"),
        mesh("machines: [{role: seed}]\n? [a]\n: b\n"),
    ];
    let mut golden = String::new();
    for text in cases {
        let told = plan_of(&text).map_or_else(|mistakes| mistakes.to_string(), |_| "good".to_owned());
        assert_ne!(told, "good", "{text}");
        let text = text.trim_end().replace(HEAD.trim_end(), "(head)");
        writeln!(golden, "{text}\n=> {told}\n").unwrap();
    }
    insta::assert_snapshot!(golden);
}

#[test]
fn a_file_of_any_octets_is_no_reason_to_panic() {
    for text in [
        "\u{0}",
        "\t",
        "&",
        "*",
        "? ",
        "- - - -",
        "{{{{",
        "\u{feff}",
        "%YAML 9.9\n---\n",
        &"[".repeat(10_000),
    ] {
        assert!(plan_of(text).is_err(), "{text:?}");
    }
    let large = format!("{HEAD}# {}\n", "x".repeat(5 << 20));
    assert!(plan_of(&large).unwrap_err().to_string().contains("more than 4 MiB"));
}

#[test]
fn the_examples_are_good() {
    for (name, text) in examples() {
        let plan = good(&text);
        assert!(plan.wanted.machines.len() > 1, "{name}");
        assert_eq!(good(&plan.to_yaml()), plan, "{name}");
    }
}

/// The schema has no say in what only the whole can tell, as which machines there are.
#[test]
fn the_schema_takes_what_the_program_takes_and_refuses_what_has_no_form() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("mesh.json", schema).unwrap();
    let index = compiler.compile("mesh.json", &mut schemas).unwrap();
    let validate = |text: &str| {
        let (node, mistakes) = yaml::read(text);
        assert_eq!(mistakes, [], "{text}");
        schemas.validate(&as_json(&node.unwrap()), index).map_err(|error| format!("{error:#}"))
    };
    for (name, text) in examples() {
        validate(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        validate(&good(&text).to_yaml()).unwrap_or_else(|error| panic!("{name}, shown: {error}"));
    }
    let mesh = |rest: &str| format!("{HEAD}{rest}");
    for text in [
        "kind: Mesh\nmachines: [{role: seed}]\n".to_owned(),
        "apiVersion: meshboot.io/v2\nkind: Mesh\nmachines: [{role: seed}]\n".to_owned(),
        mesh(""),
        mesh("machines: []\n"),
        mesh("machines: [{role: boss}]\n"),
        mesh("machines: [{role: seed, memory: 2GX}]\n"),
        mesh("machines: [{role: seed, ports: 9}]\n"),
        mesh("machines: [{role: seed, wings: 2}]\n"),
        mesh("machines: [{role: seed, kubernetesVersion: newest}]\n"),
        mesh("machines: [{role: seed, labels: {a: 1}}]\n"),
        mesh("machines: [{role: seed, taints: [a]}]\n"),
        mesh("machines: [{role: seed}]\ncables: [a]\n"),
        mesh("machines: [{role: seed}]\ncables: [{from: a}]\n"),
        mesh("machines: [{role: seed}]\nsettings: {site: {nme: a}}\n"),
        mesh("machines: [{role: seed}]\nextraConfig: {proxy: {}}\n"),
        mesh("machines: [{role: seed}]\ntopology: star\n"),
        mesh("machines: [{role: seed}, {count: 4}]\ncontrolPlanes: 2\n"),
        mesh("machines: [{role: seed}]\nname: Lab\n"),
    ] {
        assert!(validate(&text).is_err(), "{text}");
        assert!(plan_of(&text).is_err(), "{text}");
    }
}

fn as_json(node: &yaml::Node) -> Value {
    use yaml::{Kind, Scalar};
    match &node.kind {
        Kind::Scalar(Scalar::Null) => Value::Null,
        Kind::Scalar(Scalar::Bool(word)) => json!(word),
        Kind::Scalar(Scalar::Whole(digits) | Scalar::Number(digits)) => serde_json::from_str(digits).unwrap(),
        Kind::Scalar(Scalar::Text(text)) => json!(text),
        Kind::List(items) => items.iter().map(as_json).collect(),
        Kind::Map(pairs) => pairs.iter().map(|(key, value)| (key.text.clone(), as_json(value))).collect(),
    }
}
