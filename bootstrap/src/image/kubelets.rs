//! Kubelets of other versions than the mesh's: fetched, made images, and brought to the seed, from where mirrors carry them
//! to the machines that want them.

use std::collections::BTreeSet;

use anyhow::Result;
use ignition::KubernetesVersion;
use images::kubernetes::kubelet::{self, ProvideKubeletError};
use images::kubernetes::version::Version;
use images::store::Reference;

use super::bring;
use crate::deployment::Deployment;
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::Reporter;
use crate::verbs::Context;

/// Where a mesh's mirrors have kubelets: a folder that what people push of their own is not in.
const REPOSITORY: &str = "meshboot/kubelet";

/// The name by which a mesh's mirrors have a kubelet. It is the mesh's own, so nobody outside is asked for it.
///
/// # Errors
///
/// None that a version has.
pub fn name(version: KubernetesVersion) -> Result<Reference> {
    bring::name(REPOSITORY, version)
}

/// Sees to it that the cache has the images of these kubelets, and names them.
///
/// # Errors
///
/// One cannot be fetched, or is another than it should be.
pub(crate) async fn provide(
    context: &Context,
    versions: &BTreeSet<KubernetesVersion>,
    reporter: &Reporter,
) -> Result<Vec<Reference>, Failure> {
    let server = &context.settings.image.kubernetes_server;
    let mut names = Vec::new();
    for version in versions {
        let name = name(*version).or_fail(Code::Software)?;
        let of_release: Version = version.to_string().parse().or_fail(Code::Software)?;
        let provided = kubelet::provide(&context.cache, server, &of_release, &name, reporter).await;
        provided.map_err(|error| unavailable(error, &name))?;
        reporter.line(&name.to_string());
        names.push(name);
    }
    Ok(names)
}

fn unavailable(error: ProvideKubeletError, name: &Reference) -> Failure {
    let is_fetch = matches!(error, ProvideKubeletError::Fetch { .. });
    let failure = Failure { code: Code::Unavailable, error: error.into(), next: None };
    if !is_fetch {
        return failure;
    }
    failure.next(format!(
        "kubernetes.server names another server, HTTPS_PROXY a way to it; or bring an archive of {name}: `meshboot image load \
         FILE`"
    ))
}

/// Brings kubelets to a seed that runs: all nodes have them at once.
///
/// # Errors
///
/// As [`provide`], or the seed does not take them.
pub(crate) async fn bring(
    context: &Context,
    deployment: &Deployment,
    versions: &BTreeSet<KubernetesVersion>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    if versions.is_empty() {
        return Ok(());
    }
    reporter.stage("kubelets");
    let names = provide(context, versions, reporter).await?;
    bring::push(context, deployment, &names, reporter).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_has_a_name_that_is_the_meshs_own() {
        let name = name(KubernetesVersion::new(1, 33, 7)).unwrap();
        assert_eq!(name.to_string(), "mesh.internal/meshboot/kubelet:v1.33.7");
        assert!(!name.registry.is_public());
    }
}
