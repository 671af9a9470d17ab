//! What a node's initrd does with an image: its own function, with a real server and little memory.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use images::store::Digest;
use tests::netns::Namespace;

/// The room that there is for images: 1 MiB.
const NODE: &str = r#"
set -eu
mount -t tmpfs -o size=1m none "$1"
artefacts=$1 boot=::1 fetch_limit=5
say() { echo "$1"; }
die() { echo "$1"; exit 7; }
tick() { exec sleep 600; }
uptime_seconds() { echo $SECONDS; }
set +e
eval "$(sed -n '/^mebibytes()/,/^}/p; /^fetch()/,/^}/p' "$3")"
fetch "$2" root
stat -c %s "$artefacts/$2"
"#;

/// Has a machine fetch `image`, which is served as it is however often it is asked for.
fn fetches(image: &'static [u8]) -> Result<Output> {
    let node = Namespace::start("initrd")?;
    let network = node.network()?;
    network.ip(&["link", "set", "lo", "up"])?;
    let server = network.enter(|| TcpListener::bind("[::1]:80"))??;
    std::thread::spawn(move || {
        for client in server.incoming() {
            let Ok(mut client) = client else { return };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", image.len());
            // A client that breaks off is one of the things that are tried.
            let _asked = client.read(&mut [0; 1024]);
            let _sent = client.write_all(head.as_bytes()).and_then(|()| client.write_all(image));
        }
    });
    let folder = tempfile::tempdir()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/src/initrd/root");
    let mut bash = node.command("bash");
    bash.args(["-c", NODE, "bash"]).arg(folder.path()).arg(Digest::of(image).hex()).arg(script);
    bash.output().context("running bash")
}

#[test]
fn an_image_that_memory_has_no_room_for_is_none_although_all_of_it_came() -> Result<()> {
    let whole = fetches(&[7; 500_000])?;
    let said = String::from_utf8_lossy(&whole.stdout).into_owned();
    ensure!(said.contains("is here and verified") && said.ends_with("500000\n"), "{said}{whole:?}");

    let large = fetches(&[7; 3_000_000])?;
    let said = String::from_utf8_lossy(&large.stdout).into_owned();
    ensure!(large.status.code() == Some(7), "{said}{large:?}");
    ensure!(said.contains("there is no room for the root image in memory: 1 MiB of it fit"), "{said}");
    Ok(())
}
