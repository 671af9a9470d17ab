//! A mesh of virtual machines, as a user makes it: by the command line, from the checkout.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use bootstrap::gateway::settings::STATUS_PORT;
use serde_json::Value;
use tests::answers;

/// With this in the environment a test uses the mesh that is there and leaves it as it is, for those who write tests.
const ATTACH: &str = "MESHBOOT_TEST_ATTACH";
/// Between two looks: each asks machines that have little time to answer.
const INTERVAL: Duration = Duration::from_secs(2);
/// No seed is Ready so soon after its power came.
const TOO_SHORT: &str = "20s";
/// A seed sees by itself that a node is Ready.
const REVOKED: Duration = Duration::from_secs(60);
/// How far the clocks of machines may be from this computer's.
const CLOCKS: Duration = Duration::from_secs(5);

/// A running mesh; taken down when it goes out of scope, whatever the test found.
#[derive(Debug)]
pub(crate) struct Mesh {
    torn_down: bool,
}

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// `./deploy` with these arguments, and settings by their variables; what it says is on the terminal.
pub(crate) fn deploy(arguments: &[&str], settings: &[(&str, &str)]) -> ExitStatus {
    let start = Instant::now();
    let mut command = Command::new(root().join("deploy"));
    command.args(arguments).envs(settings.iter().copied()).current_dir(root()).stdin(Stdio::null());
    let status = command.status().unwrap();
    eprintln!("deploy {}: {status} after {} s", arguments.join(" "), start.elapsed().as_secs());
    status
}

impl Mesh {
    /// `./deploy` with these arguments, and what it says on the terminal.
    pub(crate) fn deploy(arguments: &[&str]) -> Self {
        Self::deploy_with(arguments, &[])
    }

    /// The same with settings, by their variables.
    pub(crate) fn deploy_with(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        if std::env::var_os(ATTACH).is_some() {
            return Self { torn_down: true };
        }
        let mesh = Self { torn_down: false };
        let status = deploy(arguments, settings);
        if !status.success() {
            mesh.show_consoles();
        }
        assert!(status.success());
        mesh
    }

    /// `./deploy` of a file that runs out of time, and once more, which goes on with what is there.
    pub(crate) fn deploy_late(arguments: &[&str]) -> Self {
        if std::env::var_os(ATTACH).is_some() {
            return Self { torn_down: true };
        }
        let mut late = Self { torn_down: false };
        assert_eq!(deploy(arguments, &[("MESHBOOT_LIBVIRT_TIMEOUT", TOO_SHORT)]).code(), Some(75));
        let told = meshboot(&[&["deploy"], arguments, &["--dry-run"]].concat());
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains("~ seed: it never was Ready; it is given power, and waited for"), "{told}");
        late.torn_down = true;
        Self::deploy(arguments)
    }

    /// `kubectl`, with the mesh's own credentials; what it printed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments, None);
        assert!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// `kubectl apply` of a manifest.
    pub(crate) fn apply(&self, manifest: &Value) {
        let output = self.try_kubectl(&["apply", "-f", "-"], Some(manifest.to_string()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn try_kubectl(&self, arguments: &[&str], input: Option<String>) -> Output {
        let mut command = Command::new(root().join("cluster/bin/kubectl"));
        command.arg("--kubeconfig").arg(root().join("cluster/auth/kubeconfig")).arg("--request-timeout=30s");
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().unwrap();
        if let Some(text) = input {
            use std::io::Write as _;
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        }
        child.wait_with_output().unwrap()
    }

    /// What `kubectl get` says in JSON.
    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = ["get"].iter().chain(arguments).chain(&["-o", "json"]).copied().collect();
        serde_json::from_str(&self.kubectl(&all)).unwrap()
    }

    /// The same, or nothing while the API server does not answer.
    pub(crate) fn try_get(&self, arguments: &[&str]) -> Option<Value> {
        let all: Vec<&str> = ["get"].iter().chain(arguments).chain(&["-o", "json"]).copied().collect();
        let output = self.try_kubectl(&all, None);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The names of the nodes that are Ready, in order.
    pub(crate) fn ready_nodes(&self) -> Vec<String> {
        ready(&self.get(&["nodes"]))
    }

    /// Whether it is just these nodes that are Ready. The API server may be away.
    pub(crate) fn are_ready(&self, names: &[&str]) -> bool {
        self.try_get(&["nodes"]).is_some_and(|nodes| ready(&nodes) == names)
    }

    /// `meshboot status -o json`.
    pub(crate) fn status(&self) -> Value {
        let output = meshboot(&["status", "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `meshboot status`, as a person reads it.
    pub(crate) fn status_table(&self) -> String {
        String::from_utf8(meshboot(&["status"]).stdout).unwrap()
    }

    /// What the status says of one machine.
    pub(crate) fn machine<'a>(&self, status: &'a Value, name: &str) -> &'a Value {
        let machines = status["machines"].as_array().unwrap();
        machines
            .iter()
            .find(|machine| machine["name"] == name)
            .unwrap_or_else(|| panic!("no {name}: {status}"))
    }

    /// Who served a machine, and at which port.
    pub(crate) fn served_by<'a>(&self, status: &'a Value, name: &str) -> &'a str {
        self.machine(status, name)["served_by"].as_str().unwrap_or_default()
    }

    /// The address of a node.
    pub(crate) fn address(&self, name: &str) -> String {
        self.machine(&self.status(), name)["address"].as_str().unwrap().to_owned()
    }

    /// How far the boot on one link has come `since` that time after 1970, as the node at its near end sees it. (The
    /// status of a machine is that of its node for as long as Kubernetes has not noticed that it is gone.)
    pub(crate) fn link_stage(&self, near: &str, port: u8, since: Duration) -> Option<String> {
        let page = format!("http://[{near}]:{STATUS_PORT}/status");
        let output = Command::new("curl").args(["-gsSf", "--max-time", "5", &page]).output().unwrap();
        let page: Value = serde_json::from_slice(&output.stdout).ok()?;
        let link = page["links"].as_array()?.iter().find(|link| link["link"]["port"] == port)?;
        let entered = Duration::from_secs(link["since"].as_u64()?);
        // Their clocks and this computer's are not quite one.
        (entered + CLOCKS > since).then(|| link["stage"].as_str().map(str::to_owned)).flatten()
    }

    /// Tokens are revoked once their node is Ready.
    pub(crate) fn has_no_bootstrap_tokens(&self) {
        let tokens = ["secrets", "-n", "kube-system", "-l", "meshboot.io/machine"];
        self.wait("no tokens", REVOKED, |mesh| {
            mesh.get(&tokens)["items"].as_array().is_some_and(Vec::is_empty)
        });
    }

    /// Each node asks the API server where its own kubelet does: at the anycast address.
    pub(crate) fn api_server_answers_from_everywhere(&self) {
        let ask = "server=$(sed -n 's/^ *server: //p' /etc/kubernetes/kubelet.conf); echo \"$server\"; \
                   curl -gsS --max-time 20 --cacert /etc/kubernetes/pki/ca.crt \"$server/readyz\"";
        for node in self.ready_nodes() {
            let answer = self.ssh(&node, ask);
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            let (server, answered) = text.split_once('\n').unwrap_or_default();
            assert!(server.starts_with("https://[fd65:"), "{node}: {server} is not the anycast address");
            assert_eq!(answered.trim(), "ok", "{node}: {}", String::from_utf8_lossy(&answer.stderr));
        }
    }

    /// Runs a command on a node.
    pub(crate) fn ssh(&self, node: &str, command: &str) -> Output {
        let address = self.address(node);
        let key = root().join("cluster/auth/ssh");
        Command::new("ssh")
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .args(["-o", "ConnectTimeout=10", "-o", "BatchMode=yes", "-i"])
            .arg(key)
            .arg(format!("root@{address}"))
            .arg(command)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Waits until `done`, and says for what if it never comes.
    pub(crate) fn wait(&self, what: &str, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() >= limit {
                self.show_consoles();
                panic!("{what}: not within {} s", limit.as_secs());
            }
            std::thread::sleep(INTERVAL);
        }
        eprintln!("{what}: {} s", start.elapsed().as_secs());
    }

    /// `./teardown`, and what it must leave: nothing of ours, and all that was there `before`.
    pub(crate) fn teardown(mut self, before: &str) {
        if std::mem::replace(&mut self.torn_down, true) {
            return;
        }
        assert!(teardown().success());
        assert_eq!(libvirt_objects(), before, "teardown leaves what it found");
        assert!(!root().join("cluster").exists());
        assert!(teardown().success(), "a second teardown is harmless");
    }

    fn show_consoles(&self) {
        let mut text = String::new();
        for entry in std::fs::read_dir(root().join("cluster/console")).into_iter().flatten().flatten() {
            let log = std::fs::read(entry.path()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            let _ = writeln!(text, "--- {}\n{}", entry.path().display(), tail.join("\n"));
        }
        eprintln!("{text}");
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if !self.torn_down {
            teardown();
        }
    }
}

/// `./teardown`.
pub(crate) fn teardown() -> ExitStatus {
    Command::new(root().join("teardown")).stdin(Stdio::null()).status().unwrap()
}

/// The binary that `deploy` built.
pub(crate) fn binary() -> PathBuf {
    root().join("target").join(triple()).join("release/meshboot")
}

/// What it says to these words; if that is for programs, it is of the form that is published.
pub(crate) fn meshboot(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    let output = command.args(arguments).current_dir(root()).stdin(Stdio::null()).output().unwrap();
    answers::are_published(arguments, &output.stdout).unwrap();
    output
}

/// What `virsh list --all --name` and `virsh net-list --all --name` say.
pub(crate) fn libvirt_objects() -> String {
    let list = |what| Command::new("virsh").args(["-c", "qemu:///system", what, "--all", "--name"]).output();
    let text = |what| list(what).map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{}\n{}", text("list").unwrap_or_default(), text("net-list").unwrap_or_default())
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn ready(nodes: &Value) -> Vec<String> {
    let mut ready: Vec<String> =
        nodes["items"].as_array().unwrap().iter().filter(is_ready).map(name).collect();
    ready.sort();
    ready
}

fn is_ready(node: &&Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}
