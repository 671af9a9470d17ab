//! Images that single machines boot, and not the whole mesh: another kernel, another release, further packages.
//!
//! They were made by `meshboot image build` with other settings. The seed has them on its disk, or they are pushed to it; the
//! files' digests go with the [reservation](Reservation) of the machine to whoever serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use ignition::{ImageId, KubernetesVersion, NodeSpec};
use images::bundle::{Bundle, BundleError, Part};
use images::catalog;
use images::store::{Reference, Store};
use mesh::NodeName;
use uuid::Uuid;

use super::bring;
use super::containers::STORE;
use crate::deployment::Deployment;
use crate::exit::{Code, Failure, OrFail as _};
use crate::gateway::settings::{Artefact, BootArtefacts, Reservation};
use crate::progress::Reporter;
use crate::verbs::Context;

/// Where a mesh's registry has them: a folder that what people push of their own is not in.
const REPOSITORY: &str = "meshboot/image";

/// Images for single machines, that the cache's store has under their names.
#[derive(Debug, Default)]
pub(crate) struct Own(BTreeMap<ImageId, Bundle>);

/// The name that images have in a store.
fn name(id: &ImageId) -> Result<Reference> {
    bring::name(REPOSITORY, id)
}

/// Sees to it that the cache's store has these images, and keeps them from being cleared away for newer ones.
///
/// # Errors
///
/// Nobody made them here, or their files are damaged.
pub(crate) async fn provide(
    context: &Context,
    ids: &BTreeSet<ImageId>,
    reporter: &Reporter,
) -> Result<Own, Failure> {
    let mut own = BTreeMap::new();
    for id in ids {
        reporter.stage(&format!("images {id}"));
        let (cache, id) = (context.cache.clone(), id.clone());
        let provided = tokio::task::spawn_blocking(move || {
            let bundle = one(&cache, &id)?;
            Ok::<_, Failure>((id, bundle))
        });
        let (id, bundle) =
            provided.await.context("storing images was interrupted").or_fail(Code::Software)??;
        own.insert(id, bundle);
    }
    Ok(Own(own))
}

/// What the cache's store has under this name, or what was made of it last, stored.
fn one(cache: &Path, id: &ImageId) -> Result<Bundle, Failure> {
    let name = name(id).or_fail(Code::Software)?;
    let store = Store::open(cache.join(STORE)).or_fail(Code::Io)?;
    let damaged = match Bundle::read(&store, &name) {
        Ok(bundle) => return Ok(bundle),
        Err(error) => error,
    };
    let catalogs = catalog::list(cache).or_fail(Code::Io)?;
    let made = catalogs.into_iter().map(|(_, catalog)| catalog).find(|catalog| catalog.id == id.as_str());
    let Some(made) = made.filter(catalog::Catalog::is_complete) else {
        let unknown = matches!(&damaged, BundleError::Whole(error) if error.is_unknown());
        let reason = if unknown { String::new() } else { format!(" ({damaged})") };
        let failure = Failure::new(Code::Config, format!("the images {id} are not in the cache{reason}"));
        return Err(
            failure.next("`meshboot image list` shows those that are; `meshboot image build` makes others")
        );
    };
    Bundle::put(&made, &store, &name).or_fail(Code::Io)
}

/// Sees to it that a seed that runs has these images, and that they go with its mesh.
///
/// # Errors
///
/// As [`provide`] and [`Own::check`], or the seed does not take them.
pub(crate) async fn bring(
    context: &Context,
    deployment: &Deployment,
    ids: &BTreeSet<ImageId>,
    mesh: KubernetesVersion,
    reporter: &Reporter,
) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let own = provide(context, ids, reporter).await?;
    own.check(deployment.addresses.boot, mesh)?;
    reporter.stage("images to the seed");
    bring::push(context, deployment, &own.names()?, reporter).await
}

/// What is reserved for a machine, with the files that it boots.
///
/// # Errors
///
/// The cache's store has its images no more.
pub(crate) fn reservation(
    context: &Context,
    name: &NodeName,
    spec: &NodeSpec,
) -> Result<Reservation, Failure> {
    let boot = match &spec.image {
        Some(id) => Some(files(&one(&context.cache, id)?)),
        None => None,
    };
    Ok(Reservation { name: name.clone(), spec: spec.clone(), boot })
}

fn files(bundle: &Bundle) -> BootArtefacts {
    let artefact = |part: Part| Artefact { sha256: part.sha256.hex(), size: part.size };
    BootArtefacts {
        uki: BTreeMap::from([("x64".to_owned(), artefact(bundle.node_uki))]),
        root: artefact(bundle.root),
        layer: artefact(bundle.layer),
    }
}

// === impl Own ===

impl Own {
    /// Their names in the store.
    ///
    /// # Errors
    ///
    /// None that they have.
    pub(crate) fn names(&self) -> Result<Vec<Reference>, Failure> {
        self.0.keys().map(|id| name(id).or_fail(Code::Software)).collect()
    }

    /// Whether they are for a mesh with this boot address and this Kubernetes.
    ///
    /// # Errors
    ///
    /// All that are not, and why.
    pub(crate) fn check(&self, boot: Ipv6Addr, mesh: KubernetesVersion) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        for (id, bundle) in &self.0 {
            if bundle.boot != boot {
                let theirs = bundle.boot;
                wrong.push(format!(
                    "the images {id} look for their neighbour at {theirs}, and this mesh has it at {boot}"
                ));
            }
            if bundle.kubernetes != mesh.to_string() {
                let theirs = &bundle.kubernetes;
                wrong.push(format!("the images {id} have Kubernetes {theirs}, and this mesh has {mesh}"));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let failure = Failure::new(Code::Config, wrong.join("\n  "));
        Err(failure.next(
            "make them with this mesh's addresses and Kubernetes; a kubelet of another version is had with --kubernetes-version",
        ))
    }

    /// Puts the files into the reservations of those who boot them.
    pub(crate) fn enter(&self, reservations: &mut BTreeMap<Uuid, Reservation>) {
        for reservation in reservations.values_mut() {
            let bundle = reservation.spec.image.as_ref().and_then(|id| self.0.get(id));
            reservation.boot = bundle.map(files);
        }
    }
}

#[cfg(test)]
mod tests {
    use images::store::Digest;

    use super::*;

    #[test]
    fn images_that_nobody_made_are_named() {
        let cache = tempfile::tempdir().unwrap();
        let failure = one(cache.path(), &"0123456789abcdef".parse().unwrap()).unwrap_err();
        assert_eq!(failure.message(), "the images 0123456789abcdef are not in the cache");
        assert_eq!(failure.code, Code::Config);
    }

    #[test]
    fn images_of_another_mesh_do_not_fit() {
        let part = |text: &str| Part { sha256: Digest::of(text), size: 4 };
        let boot: Ipv6Addr = "fd65:7b9c:569:680::b007".parse().unwrap();
        let bundle = Bundle {
            id: "0123456789abcdef".to_owned(),
            boot,
            kubernetes: "v1.34.2".to_owned(),
            node_uki: part("uki"),
            root: part("root"),
            layer: part("layer"),
        };
        let id: ImageId = bundle.id.parse().unwrap();
        assert_eq!(name(&id).unwrap().to_string(), "mesh.internal/meshboot/image:0123456789abcdef");
        let own = Own(BTreeMap::from([(id.clone(), bundle)]));
        assert!(own.check(boot, KubernetesVersion::new(1, 34, 2)).is_ok());
        let refused = own.check("fd00::1".parse().unwrap(), KubernetesVersion::new(1, 34, 1)).unwrap_err();
        assert_eq!(refused.message().lines().count(), 2, "{}", refused.message());

        let reserved = |image: Option<&ImageId>| Reservation {
            name: "a".parse().unwrap(),
            spec: NodeSpec { image: image.cloned(), ..NodeSpec::default() },
            boot: None,
        };
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let mut reservations = BTreeMap::from([(one, reserved(Some(&id))), (other, reserved(None))]);
        own.enter(&mut reservations);
        let root = |uuid| reservations[uuid].boot.as_ref().map(|boot| boot.root.sha256.clone());
        assert_eq!((root(&one), root(&other)), (Some(Digest::of("root").hex()), None));
    }
}
