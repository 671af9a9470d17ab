//! Images out of the cache, brought to a seed that runs: all nodes have them at once, by their mirrors.

use std::fmt::Display;

use anyhow::{Context as _, Result};
use images::client::client_to_mesh;
use images::push::Pusher;
use images::registry::USER;
use images::store::{Reference, Store};
use images::upstream::Credentials;
use mesh::plan::{MESH_REGISTRY, REGISTRY_PORT};

use super::containers::STORE;
use crate::deploy::{REGISTRY_AUTHORITY, REGISTRY_PASSWORD};
use crate::deployment::{Deployment, seed_addresses};
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::Reporter;
use crate::verbs::Context;

/// The name that an image has in the mesh's own registry, which nobody outside is asked for.
///
/// # Errors
///
/// It would be none.
pub(super) fn name(repository: &str, tag: impl Display) -> Result<Reference> {
    let name = format!("{MESH_REGISTRY}/{repository}:{tag}");
    name.parse().with_context(|| format!("`{name}` is no image's name"))
}

/// Pushes images of the cache's store to the registry of a deployment's seed.
///
/// # Errors
///
/// The seed does not take them; those before are there.
pub(super) async fn push(
    context: &Context,
    deployment: &Deployment,
    names: &[Reference],
    reporter: &Reporter,
) -> Result<(), Failure> {
    let pusher = pusher(context, deployment).or_fail(Code::Data)?;
    let store = Store::open_read_only(context.cache.join(STORE)).or_fail(Code::Data)?;
    for name in names {
        let pushed = pusher.push(&store, name, reporter).await;
        let pushed = pushed.with_context(|| format!("cannot bring {name} to the seed"));
        pushed.or_fail(Code::TryAgain).map_err(|failure| {
            failure.next(
                "`meshboot status` says whether the seed is there, `meshboot node logs seed` what it says",
            )
        })?;
    }
    Ok(())
}

/// The registry of a deployment's seed.
fn pusher(context: &Context, deployment: &Deployment) -> Result<Pusher> {
    let read = |name: &str| {
        let path = context.directory.path().join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let password = read(REGISTRY_PASSWORD)?.trim().to_owned();
    let client = client_to_mesh(&read(REGISTRY_AUTHORITY)?).context("cannot reach the seed")?;
    let place = if deployment.stick.is_some() {
        let block = deployment.addresses.block(deployment.seed.block);
        let block = block.context("the address plan has no block for the seed")?;
        format!("https://[{}]:{REGISTRY_PORT}", block.vip())
    } else {
        let (address, _) = seed_addresses(&context.settings.libvirt);
        format!("https://{address}:{REGISTRY_PORT}")
    };
    Ok(Pusher::new(&place, client, Credentials { user: USER.to_owned(), password })?)
}
