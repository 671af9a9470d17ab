use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::store::Digest;

/// A program of 200 bytes for Linux on amd64: prints one text when it has at most three arguments and another one when
/// it has more.
fn program(few: &str, many: &str) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const CODE: u64 = 64 + 56;
    let mut code = Vec::new();
    let texts_at = 56_i32;
    let relative = |at: usize, offset: i32| (texts_at + offset - i32::try_from(at).unwrap()).to_le_bytes();
    let length = |text: &str| u32::try_from(text.len()).unwrap().to_le_bytes();
    code.extend([0x8b, 0x04, 0x24]); // mov eax, [rsp]: the number of arguments
    code.extend([0x48, 0x8d, 0x35]); // lea rsi, [rip + few]
    code.extend(relative(code.len() + 4, 0));
    code.push(0xba); // mov edx, its length
    code.extend(length(few));
    code.extend([0x83, 0xf8, 0x04, 0x7e, 12]); // cmp eax, 4; jle past the next two
    code.extend([0x48, 0x8d, 0x35]); // lea rsi, [rip + many]
    code.extend(relative(code.len() + 4, i32::try_from(few.len()).unwrap()));
    code.push(0xba);
    code.extend(length(many));
    code.extend([0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x0f, 0x05]); // write(1, rsi, edx)
    code.extend([0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // exit(0)
    code.resize(56, 0x90);
    code.extend(few.bytes().chain(many.bytes()));

    let size = CODE + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    elf.extend([BASE + CODE, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    elf.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\x40\0\0\0\0\0");
    elf.extend(b"\x01\0\0\0\x05\0\0\0");
    elf.extend([0, BASE, BASE, size, size, 0x1000].iter().flat_map(|word| word.to_le_bytes()));
    elf.extend(code);
    elf
}

const IMAGES: &str = "registry.k8s.io/kube-apiserver:v1.30.1\nregistry.k8s.io/pause:3.9\n";

struct Bench(TempDir);

impl Bench {
    fn whole() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.put("kubeadm", &program("v1.30.1\n", IMAGES), 0o755);
        bench.put("kubelet", &program("Kubernetes v1.30.1\n", ""), 0o755);
        let version = "{\"clientVersion\": {\"gitVersion\": \"v1.30.1\"}}";
        bench.put("kubectl", &program(version, version), 0o755);
        bench.put("README", b"no archive", 0o644);
        bench.archive("images.tar", "k8s.gcr.io/kube-apiserver-amd64:v1.30.1");
        bench
    }

    fn put(&self, name: &str, bytes: &[u8], mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// An archive of an image without layers.
    fn archive(&self, name: &str, tag: &str) {
        let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let path = format!("{}.json", Digest::of(config).hex());
        let index = json!([{ "Config": path, "RepoTags": [tag], "Layers": [] }]).to_string();
        let mut tar = tar::Builder::new(Vec::new());
        for (path, bytes) in [(path.as_str(), config.as_slice()), ("manifest.json", index.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes).unwrap();
        }
        self.put(name, &tar.into_inner().unwrap(), 0o644);
    }

    async fn problems(&self) -> Vec<Problem> {
        Folder::read(self.0.path()).await.unwrap_err().problems
    }
}

#[tokio::test]
async fn a_whole_folder_is_read() {
    let bench = Bench::whole();
    let folder = Folder::read(bench.0.path()).await.unwrap();
    assert_eq!(folder.version.to_string(), "v1.30.1");
    assert_eq!(folder.archives, [bench.0.path().join("images.tar")]);
    assert_eq!(folder.missing, ["registry.k8s.io/pause:3.9".parse().unwrap()]);
    let store = Store::open(bench.0.path().join("store")).unwrap();
    let loaded = folder.load_images(&store).unwrap();
    assert_eq!(loaded[0].reference.to_string(), "registry.k8s.io/kube-apiserver:v1.30.1");
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let bench = Bench(tempfile::tempdir().unwrap());
    bench.put("kubelet", b"#!/bin/sh\necho Kubernetes v1.30.1\n", 0o755);
    bench.put("kubectl", &program("", ""), 0o644);
    bench.put("broken.tar.gz", b"no archive", 0o644);
    let error = Folder::read(bench.0.path()).await.unwrap_err();
    assert!(
        matches!(
            error.problems.as_slice(),
            [
                Problem::Missing("kubeadm"),
                Problem::NotForAmd64("kubelet"),
                Problem::NotExecutable("kubectl"),
                Problem::Archive(_)
            ]
        ),
        "{error}"
    );
    let text = error.to_string();
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.contains("broken.tar.gz: it is no tar archive"), "{text}");
}

#[tokio::test]
async fn versions_have_to_agree() {
    let bench = Bench::whole();
    bench.put("kubelet", &program("Kubernetes v1.29.0\n", ""), 0o755);
    assert!(matches!(bench.problems().await.as_slice(), [Problem::Versions { .. }]));
    bench.put("kubelet", &program("hello\n", ""), 0o755);
    assert!(matches!(
        bench.problems().await.as_slice(),
        [Problem::Ask { name: "kubelet", source: AskError::Version { .. } }]
    ));
    bench.put("kubeadm", &program("v1.30.1", "what?"), 0o755);
    bench.put("kubelet", &program("Kubernetes v1.30.1", ""), 0o755);
    assert!(matches!(
        bench.problems().await.as_slice(),
        [Problem::Ask { name: "kubeadm", source: AskError::Image { .. } }]
    ));
}

#[tokio::test]
async fn a_folder_that_is_none_is_said_to_be() {
    let error = Folder::read(Path::new("/nowhere")).await.unwrap_err();
    assert!(matches!(error.problems.as_slice(), [Problem::Read(_)]), "{error}");
}
