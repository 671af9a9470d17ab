//! What a seed does besides, and what every control plane does: the first line of the ledger; the certificates of boot
//! servers.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mesh::store::transact;
use mesh::{Change, Machine, NodeName, Store, StoreError};

use super::settings::GatewaySettings;
use crate::join::Certifier;
use crate::pki;
use crate::pki::boot::BootSigner;
use crate::store::journal::MeshStore;

/// Sees to it that the ledger begins with the seed itself.
///
/// # Errors
///
/// The ledger cannot be written, or is another site's.
pub fn enter_self(store: &dyn Store, machine: &Machine) -> Result<()> {
    let (ledger, _) = store.load().context("cannot read the ledger")?;
    if let Some(known) = ledger.machine(machine.id) {
        ensure!(
            (known.block, known.router_id, &known.name) == (machine.block, machine.router_id, &machine.name),
            "the ledger knows this seed as {} with block {}, and its settings say {} with block {}: the disk is another \
             deployment's",
            known.name,
            known.block.0,
            machine.name,
            machine.block.0
        );
    }
    transact(store, |ledger| {
        let change = ledger.machine(machine.id).is_none().then(|| Change::Admit(machine.clone()));
        Ok::<_, StoreError>(((), change))
    })
    .context("cannot enter the seed in the ledger")
}

/// What boot servers' certificates are signed with, if there are any: each for the block that the ledger gave its node.
///
/// # Errors
///
/// The authority cannot be read.
pub fn certifier(settings: &GatewaySettings, store: &Arc<MeshStore>) -> Result<Option<Certifier>> {
    let Some(signer) = boot_signer(settings)? else { return Ok(None) };
    let (plan, store) = (settings.site.plan.clone(), Arc::clone(store));
    let block_of = move |node: &NodeName| {
        let ledger = store.cached();
        ledger.machine_named(node.as_str()).and_then(|machine| plan.block(machine.block))
    };
    Ok(Some(Certifier::new(signer, block_of)))
}

/// The authority that firmware trusts, on a machine that has its key.
///
/// # Errors
///
/// The key cannot be read.
pub fn boot_signer(settings: &GatewaySettings) -> Result<Option<BootSigner>> {
    let key = match &settings.seed {
        Some(seed) => seed.boot_authority_key.clone(),
        // It comes when the node becomes a control plane.
        None => Some(pki::boot_key_file()).filter(|file| file.exists()),
    };
    let pair = settings.boot_authority.as_ref().zip(key);
    pair.map(|(certificate_pem, key)| BootSigner::open(certificate_pem, &key)).transpose()
}
