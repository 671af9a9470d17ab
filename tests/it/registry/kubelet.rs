//! Kubelets of other versions: pushed to the seed by our own client, and fetched by the program that a node runs for it,
//! which lays them over its own.

use ignition::KubernetesVersion;
use images::client::client_to_mesh;
use images::kubernetes::kubelet::PROGRAM;
use images::push::Pusher;
use images::registry::USER;
use images::store::Content;
use images::store::Manifest;
use images::upstream::Credentials;

use super::line::{Machine, name};
use super::push::{Mesh, PASSWORD, mesh};
use super::*;
use crate::cli::binary;

/// The kubelet of the nodes' image.
const OLD: &str = "#!/bin/sh\necho Kubernetes v1.34.2\n";

fn version(text: &str) -> KubernetesVersion {
    text.parse().unwrap()
}

/// A program that says of itself that it is this kubelet.
fn program(version: &str) -> String {
    format!("#!/bin/sh\n# {}\necho Kubernetes {version}\n", "x".repeat(100_000))
}

/// The operator's side: images of kubelets in a store, and the seed that they are pushed to.
struct Operator<'a> {
    mesh: &'a Mesh,
    store: Store,
}

impl Operator<'_> {
    /// Brings a kubelet to the seed that says of itself that it is `said`, and gives its layer's digest.
    fn bring(&self, wanted: &str, said: &str) -> Digest {
        let mut layer = Layer::default();
        layer.bytes(PROGRAM, program(said), 0o755).unwrap();
        let reference = bootstrap::image::kubelet_name(version(wanted)).unwrap();
        let image = Image { layers: vec![layer], config: Config::default() };
        let target = image.assemble_as(&reference, &self.store, Compression::default()).unwrap();
        let authority = fs::read_to_string(format!("{}/ca.crt", self.mesh.trust)).unwrap();
        let place = format!("https://{}", self.mesh.registry);
        let store = self.store.clone();
        let push = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = client_to_mesh(&authority).unwrap();
                let credentials =
                    |password: &str| Credentials { user: USER.to_owned(), password: password.to_owned() };
                let stranger = Pusher::new(&place, client.clone(), credentials("another")).unwrap();
                let refused = stranger.push(&store, &reference, &()).await.unwrap_err();
                assert!(refused.to_string().contains("401"), "{refused}");
                let operator = Pusher::new(&place, client, credentials(PASSWORD)).unwrap();
                operator.push(&store, &reference, &()).await.unwrap();
            });
        };
        self.mesh.seed().network().unwrap().enter(push).unwrap();
        let manifest = self.store.read(&target.digest, 1 << 20).unwrap().unwrap();
        let Content::Image { layers, .. } = Manifest::parse(&manifest).unwrap().content else {
            unreachable!()
        };
        layers[0].digest
    }
}

/// A node's own kubelets.
struct Node<'a> {
    machine: &'a Machine,
    folder: PathBuf,
    program: PathBuf,
}

impl<'a> Node<'a> {
    fn new(machine: &'a Machine, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let program = folder.join("program");
        fs::write(&program, OLD).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self { machine, folder: folder.join("kubelets"), program }
    }

    /// Runs what its unit runs.
    fn get(&self, version: &str, limit: &str) -> Output {
        let settings = self.machine.folder.join("gateway.json");
        let mut command = self.machine.namespace.command(binary());
        command.arg("--settings").arg(settings).args(["kubelet", version, "--limit", limit]);
        command.arg("--folder").arg(&self.folder).arg("--program").arg(&self.program);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// What somebody on the node gets who runs the kubelet.
    fn runs(&self) -> String {
        self.machine.namespace.run(self.program.to_str().unwrap(), &[]).unwrap()
    }

    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_node_gets_its_kubelet_by_its_mirror_keeps_it_and_takes_no_other() {
    let served = Served::start();
    let mut mesh = mesh(&served, "kubelet");
    let store = Store::open(served.path("operator")).unwrap();
    let operator = Operator { mesh: &mesh, store };
    operator.bring("v1.33.7", "v1.33.7");
    operator.bring("v1.33.6", "v1.33.5");
    let layer = operator.bring("v1.33.8", "v1.33.8");

    // By three mirrors, and over the kubelet of this node only.
    let last = Node::new(&mesh.machines[3], &served.path("own"));
    let output = last.get("v1.33.7", "1m");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(last.runs(), "Kubernetes v1.33.7\n");
    assert_eq!(fs::read_to_string(&last.program).unwrap(), OLD, "the mount is the node's");
    let digest = Digest::of(program("v1.33.7").as_bytes()).hex();
    assert_eq!(last.kept(), [format!("v1.33.7-{digest}")]);

    // What is damaged on the disk comes anew. The node goes on with the program that it runs.
    fs::remove_file(last.folder.join(&last.kept()[0])).unwrap();
    fs::write(last.folder.join(format!("v1.33.7-{digest}")), "damaged").unwrap();
    let output = last.get("v1.33.7", "1m");
    assert!(output.status.success() && said(&output).contains("damaged"), "{}", said(&output));
    assert_eq!((last.runs().as_str(), last.kept().len()), ("Kubernetes v1.33.7\n", 1));

    // One that is another than its name says, and one whose bytes are others than its digest says.
    let blob = served.path(&name(0)).join("images/blobs/sha256").join(layer.hex());
    let bytes = fs::read(&blob).unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, vec![b'?'; bytes.len()]).unwrap();
    let other = Node::new(&mesh.machines[2], &served.path("other"));
    for (version, reason) in
        [("v1.33.6", "is the kubelet v1.33.5"), ("v1.33.8", "sha256:"), ("v1.33.9", "not")]
    {
        let output = other.get(version, "5s");
        assert!(!output.status.success(), "{version}: {}", said(&output));
        let said = said(&output);
        assert!(said.contains(reason) && said.contains(&format!("no kubelet {version} within 5s")), "{said}");
        assert_eq!(other.runs(), "Kubernetes v1.34.2\n");
        assert!(other.kept().iter().all(|kept| kept == "store"), "{:?}", other.kept());
    }

    // A restart needs nobody.
    let kept = last.folder.clone();
    drop((last, other));
    for machine in &mut mesh.machines {
        machine.stop();
    }
    let alone = Node { folder: kept, ..Node::new(&mesh.machines[1], &served.path("restarted")) };
    let output = alone.get("v1.33.7", "5s");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(alone.runs(), "Kubernetes v1.33.7\n");
}
