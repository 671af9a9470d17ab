use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use mesh::{AddressPlan, BlockNumber};

use super::super::api::Watcher;
use super::*;
use crate::pki;
use crate::store::journal::MeshStore;

/// A seed's keeper whose file is in this folder, and what it shows.
fn keeper(folder: &Path, authority: &pki::Authority) -> (Keeper, watch::Receiver<Option<ServerCertificate>>) {
    let signer = BootSigner::new(authority).unwrap();
    let (shown, seen) = watch::channel(None);
    let block = AddressPlan::default().block(BlockNumber(4)).unwrap();
    let node = "node4".parse().unwrap();
    let (file, signer) = (folder.join(FILE), Signer::Own(signer));
    let authority = authority.certificate_pem.clone();
    (Keeper { file, node, block, authority, signer, shown }, seen)
}

fn authority() -> pki::Authority {
    boot::authority(SystemTime::now()).unwrap()
}

#[tokio::test]
async fn a_certificate_is_made_once_and_kept_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let (first, seen) = keeper(folder.path(), &authority);
    assert!(seen.borrow().is_none());
    first.look().await.unwrap();
    assert!(seen.borrow().is_some());
    let path = folder.path().join(FILE);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read(&path).unwrap();
    let (second, seen) = keeper(folder.path(), &authority);
    second.look().await.unwrap();
    assert!(seen.borrow().is_some());
    assert_eq!(fs::read(&path).unwrap(), kept);
}

#[tokio::test]
async fn what_cannot_be_used_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let path = folder.path().join(FILE);
    fs::write(&path, "{").unwrap();
    let (keeper_of_4, seen) = keeper(folder.path(), &authority);
    keeper_of_4.look().await.unwrap();
    assert!(seen.borrow().is_some());
    let kept = fs::read(&path).unwrap();
    // The machine has become another node.
    let (mut keeper_of_5, _seen) = keeper(folder.path(), &authority);
    keeper_of_5.block = AddressPlan::default().block(BlockNumber(5)).unwrap();
    keeper_of_5.look().await.unwrap();
    let kept_of_5 = fs::read(&path).unwrap();
    assert_ne!(kept_of_5, kept);
    // The site was deployed anew, and firmware trusts another authority.
    let (mut anew, _seen) = keeper(folder.path(), &self::authority());
    anew.block = keeper_of_5.block;
    anew.look().await.unwrap();
    assert_ne!(fs::read(&path).unwrap(), kept_of_5);
}

#[tokio::test]
async fn one_that_is_to_be_renewed_is_shown_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let (mut keeper, seen) = keeper(folder.path(), &authority);
    let past = SystemTime::now() - (boot::LIFE - Duration::from_hours(24));
    let request = boot::request(&keeper.node).unwrap();
    let signer = BootSigner::new(&authority).unwrap();
    let certificate_pem = signer.sign(&request.request_pem, &keeper.node, keeper.block, past).unwrap();
    let kept = Kept { certificate_pem, key_pem: request.key_pem.expose().clone() };
    fs::write(&keeper.file, serde_json::to_vec(&kept).unwrap()).unwrap();
    let (_, nobody) = Watcher::new(Arc::new(MeshStore::relay(None).unwrap()), AddressPlan::default(), None);
    let signer = std::mem::replace(&mut keeper.signer, Signer::Seed(nobody));
    let error = keeper.look().await.unwrap_err();
    assert!(error.to_string().contains("API server"), "{error:#}");
    assert!(seen.borrow().is_some(), "it is shown meanwhile");
    keeper.signer = signer;
    keeper.look().await.unwrap();
    let renewed = Kept::read(&keeper.file).unwrap().unwrap();
    assert_ne!(renewed.certificate_pem, kept.certificate_pem);
    let due = boot::renewed_at(&renewed.certificate_pem, &keeper.authority, keeper.block).unwrap();
    assert!(due > SystemTime::now());
}
