use std::{env, time::Instant};

use super::*;
use crate::{disk::SeedDisk, seed_store::seed_store};

/// Shows stages on the test's output.
struct Shown(Instant);

impl Progress for Shown {
    fn stage(&self, name: &str) {
        println!("{:7.1} s  {name}", self.0.elapsed().as_secs_f32());
    }

    fn advance(&self, _done: u64, _total: Option<u64>) {}

    fn line(&self, _text: &str) {}
}

/// With `MESHBOOT_TEST_CACHE` and `MESHBOOT_TEST_BINARY` set, in that cache and with that binary.
#[tokio::test]
#[ignore = "takes minutes and a Debian mirror"]
async fn everything_is_made_once() {
    let fresh = tempfile::tempdir().unwrap();
    let cache = env::var_os("MESHBOOT_TEST_CACHE").map_or_else(|| fresh.path().to_owned(), PathBuf::from);
    let binary = env::var_os("MESHBOOT_TEST_BINARY").map_or_else(|| "/bin/true".into(), PathBuf::from);
    let mut options = Options::new(cache, binary, "fd65:7b9c:569:680::b007".parse().unwrap());
    options.kubernetes = Source::Debian;
    let progress = Shown(Instant::now());
    let first = build(&options, &progress).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
    println!(
        "{:7.1} s  done: {}",
        progress.0.elapsed().as_secs_f32(),
        serde_json::to_string_pretty(&first).unwrap()
    );
    assert!(first.is_complete());
    assert!(first.root.size <= root::MAX_IMAGE && first.node_uki.size < 90 * 1024 * 1024);

    let again = Instant::now();
    assert_eq!(build(&options, &progress).await.unwrap(), first);
    println!("again: {:.1} s", again.elapsed().as_secs_f32());
    assert!(again.elapsed().as_secs() < 20, "a second run only looks");

    let config = env::var_os("MESHBOOT_TEST_CONFIG")
        .map_or_else(|| br#"{"ignition":{"version":"3.3.0"}}"#.to_vec(), |path| fs::read(path).unwrap());
    let disk = SeedDisk {
        uki: first.seed_uki.path.clone(),
        root: first.root.path.clone(),
        layer: first.layer.path.clone(),
        config,
        artefacts: seed_store(&options.cache, &first, &[], &progress).await.unwrap(),
    };
    let path = options.cache.join("seed.img");
    let layout = disk.write_file(&path, Some(8 << 30), &progress).unwrap();
    println!("{:7.1} s  {}: {layout:#?}", progress.0.elapsed().as_secs_f32(), path.display());
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  {error}"));
        cause = error.source();
    }
    text
}
