//! Ethernet ports that the ledger does not know yet: entered, routed, served.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mesh::store::transact;
use mesh::{Change, Mac, Machine, Port, PortIndex, StoreError};
use netboot_server::{GatewayEvent, GatewayHandle};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::settings::GatewaySettings;
use crate::store::journal::MeshStore;

/// Reads a new port's part of the routing configuration.
const VTYSH: &str = "/usr/bin/vtysh";

/// Brings new ports into the mesh.
#[derive(Debug)]
pub struct Ports {
    settings: Arc<GatewaySettings>,
    store: Arc<MeshStore>,
    netboot: GatewayHandle,
}

// === impl Ports ===

impl Ports {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(settings: Arc<GatewaySettings>, store: Arc<MeshStore>, netboot: GatewayHandle) -> Self {
        Self { settings, store, netboot }
    }

    /// Acts on what the netboot servers tell, until they end.
    pub async fn run(self, mut events: mpsc::Receiver<GatewayEvent>) {
        while let Some(event) = events.recv().await {
            let GatewayEvent::NewPort { name, mac } = event else { continue };
            if self.settings.seed.as_ref().is_some_and(|seed| seed.excluded.contains(&mac)) {
                continue;
            }
            if let Err(error) = self.take_in(&name, mac).await {
                tracing::warn!(port = name, %mac, "a new port is not served: {error:#}; plug it in again to try again");
            }
        }
    }

    async fn take_in(&self, name: &str, mac: Mac) -> Result<()> {
        let (store, id, port_name) = (Arc::clone(&self.store), self.settings.machine.id, name.to_owned());
        let enter = move || {
            transact(&*store, |ledger| {
                let Some(machine) = ledger.machine(id) else {
                    let reason = "the ledger does not know this machine yet".to_owned();
                    return Err(StoreError::Unavailable { reason });
                };
                let port = Port { index: index_for(machine, mac), mac, name: port_name.clone() };
                let change = Change::Extend { machine: id, ports: vec![port.clone()] };
                let news = !machine.ports.contains(&port);
                Ok((port, news.then_some(change)))
            })
        };
        let port = tokio::task::spawn_blocking(enter).await.context("the ledger's task ended")?;
        let port = port.context("cannot enter it in the ledger")?;
        self.route(name).await?;
        self.netboot.add_port(mac, port.index).await;
        Ok(())
    }

    /// Tells the routing daemon of the port. It keeps its sessions on the others.
    async fn route(&self, name: &str) -> Result<()> {
        if !Path::new(VTYSH).exists() {
            return Ok(());
        }
        let lines = ignition::frr::frr_port(self.settings.machine.router_id.asn(), name);
        let mut command = Command::new(VTYSH);
        for line in lines.lines() {
            command.args(["-c", line]);
        }
        let output = command.stdin(Stdio::null()).output().await.context("cannot start vtysh")?;
        ensure!(
            output.status.success(),
            "vtysh refused the port: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// The number that the port has, or the lowest free one.
fn index_for(machine: &Machine, mac: Mac) -> PortIndex {
    let free = || PortIndex::all().find(|index| machine.ports.iter().all(|port| port.index != *index));
    machine.port(mac).map(|port| port.index).or_else(free).unwrap_or_else(|| machine.ports[0].index)
}
