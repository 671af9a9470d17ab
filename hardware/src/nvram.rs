//! The NVRAM of a blank machine: boot entries that try PXE over IPv6 on every cabled port, for ever.
//!
//! Left alone, OVMF tries PXE and HTTP over IPv4 and IPv6 on each port in turn, about a minute each where
//! nobody answers, and then waits for a key press. A mesh without IPv4 gains nothing of that, and a machine
//! that waits for a key never comes back after a power cut. So its variables are written before its first
//! start: one entry per cabled port, and last the firmware's own shell with the command `reset`. It does what
//! "unlimited boot to network attempts" does in the firmware of real machines.
//!
//! The layout is that of EDK2's `VariableFormat.h` (authenticated variables) in a firmware volume
//! `[UEFI PI 1.8 § III-3.2]`, the contents that of load options `[UEFI 2.10 § 3.1.3]`.

use mesh::Mac;
use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

const GLOBAL_VARIABLE: Uuid = uuid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
const AUTHENTICATED_STORE: Uuid = uuid!("aaf32c78-947b-439a-a180-2e144ec37792");
/// OVMF's volume of drivers and, in it, its shell: the same in every build.
const FIRMWARE_VOLUME: Uuid = uuid!("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1");
const SHELL: Uuid = uuid!("7c04a583-9e3e-4f1c-ad65-e05268d0b4d1");

const VOLUME_SIGNATURE: &[u8] = b"_FVH";
const VOLUME_SIGNATURE_AT: usize = 40;
const VOLUME_HEADER_LENGTH_AT: usize = 48;
const STORE_HEADER_LENGTH: usize = 28;
const VARIABLE_HEADER_LENGTH: usize = 60;
const VARIABLE_START: [u8; 2] = 0x55AA_u16.to_le_bytes();
const VARIABLE_ADDED: u8 = 0x3f;
/// Non-volatile, at boot time, at run time.
const VARIABLE_ATTRIBUTES: u32 = 7;
const LOAD_OPTION_ACTIVE: u32 = 1;
const END_OF_PATH: [u8; 4] = [0x7f, 0xff, 4, 0];

/// A network port as the firmware finds it: a function of the root bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPort {
    /// Its slot on PCI bus 0.
    pub slot: u8,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// A file that boot entries cannot be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NvramError {
    /// It is no store of authenticated variables.
    #[error("it is no UEFI variable store of the kind that OVMF has")]
    UnknownFormat,
    /// There is no room for the entries.
    #[error("it has no room for the boot entries")]
    Full,
}

/// The template with boot entries for `ports`, in this order, and a reset after the last.
///
/// # Errors
///
/// [`NvramError`]: the template is not one that this function knows how to extend.
pub fn boot_entries(template: &[u8], ports: &[NetworkPort]) -> Result<Vec<u8>, NvramError> {
    let mut store = Store::open(template.to_vec())?;
    let entries = ports.iter().zip(0_u32..).map(|(port, number)| LoadOption {
        title: format!("mesh port {number}"),
        path: network_path(*port),
        arguments: Vec::new(),
    });
    let again = LoadOption {
        title: "try again".to_owned(),
        path: shell_path(),
        // The first word is taken for the shell's own name.
        arguments: utf16("Shell reset -w"),
    };
    let mut order: Vec<u8> = Vec::new();
    for (entry, number) in entries.chain([again]).zip(0_u16..) {
        store.append(&format!("Boot{number:04X}"), &entry.to_bytes())?;
        order.extend(number.to_le_bytes());
    }
    store.append("BootOrder", &order)?;
    Ok(store.bytes)
}

struct LoadOption {
    title: String,
    path: Vec<u8>,
    arguments: Vec<u8>,
}

struct Store {
    bytes: Vec<u8>,
    free: usize,
    end: usize,
}

// === impl LoadOption ===

impl LoadOption {
    fn to_bytes(&self) -> Vec<u8> {
        let length = u16::try_from(self.path.len()).expect("a path of six nodes is short");
        let mut bytes = LOAD_OPTION_ACTIVE.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(utf16(&self.title));
        bytes.extend(&self.path);
        bytes.extend(&self.arguments);
        bytes
    }
}

/// `PciRoot(0)/Pci(slot,0)/MAC(mac,1)/IPv6(…)`.
fn network_path(port: NetworkPort) -> Vec<u8> {
    let mut path = node(2, 1, &[0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0]);
    path.extend(node(1, 1, &[0, port.slot]));
    let mut mac = [0; 33];
    mac[..6].copy_from_slice(&port.mac.0);
    mac[32] = 1;
    path.extend(node(3, 11, &mac));
    // Local and remote address, ports, protocol, origin; prefix length; gateway.
    let mut ipv6 = [0; 56];
    ipv6[39] = 64;
    path.extend(node(3, 13, &ipv6));
    path.extend(END_OF_PATH);
    path
}

/// `Fv(…)/FvFile(…)`.
fn shell_path() -> Vec<u8> {
    let mut path = node(4, 7, &FIRMWARE_VOLUME.to_bytes_le());
    path.extend(node(4, 6, &SHELL.to_bytes_le()));
    path.extend(END_OF_PATH);
    path
}

fn node(kind: u8, sub_kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 4).expect("a node is short");
    let mut bytes = vec![kind, sub_kind];
    bytes.extend(length.to_le_bytes());
    bytes.extend(data);
    bytes
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

// === impl Store ===

impl Store {
    fn open(bytes: Vec<u8>) -> Result<Self, NvramError> {
        let unknown = NvramError::UnknownFormat;
        let at = |from: usize, length: usize| bytes.get(from..from + length).ok_or(unknown);
        if at(VOLUME_SIGNATURE_AT, VOLUME_SIGNATURE.len())? != VOLUME_SIGNATURE {
            return Err(unknown);
        }
        let header = at(VOLUME_HEADER_LENGTH_AT, 2)?.try_into().map_err(|_| unknown)?;
        let store = usize::from(u16::from_le_bytes(header));
        if at(store, 16)? != AUTHENTICATED_STORE.to_bytes_le() {
            return Err(unknown);
        }
        let size = at(store + 16, 4)?.try_into().map_err(|_| unknown)?;
        let end = usize::try_from(u32::from_le_bytes(size)).map_err(|_| unknown)?.saturating_add(store);
        let mut free = store + STORE_HEADER_LENGTH;
        while at(free, 2)? == VARIABLE_START {
            let length = |offset: usize| -> Result<usize, NvramError> {
                let field = at(free + offset, 4)?.try_into().map_err(|_| unknown)?;
                usize::try_from(u32::from_le_bytes(field)).map_err(|_| unknown)
            };
            let contents = length(36)?.checked_add(length(40)?).ok_or(unknown)?;
            free = aligned(free.checked_add(VARIABLE_HEADER_LENGTH + contents).ok_or(unknown)?);
        }
        Ok(Self { bytes, free, end })
    }

    fn append(&mut self, name: &str, data: &[u8]) -> Result<(), NvramError> {
        let name = utf16(name);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| NvramError::Full);
        let mut variable = VARIABLE_START.to_vec();
        variable.extend([VARIABLE_ADDED, 0]);
        variable.extend(VARIABLE_ATTRIBUTES.to_le_bytes());
        // Monotonic count, time stamp and public key: of use to signed variables only.
        variable.extend([0; 8 + 16 + 4]);
        variable.extend(length(&name)?.to_le_bytes());
        variable.extend(length(data)?.to_le_bytes());
        variable.extend(GLOBAL_VARIABLE.to_bytes_le());
        variable.extend(name);
        variable.extend(data);
        let end = self.free + variable.len();
        if end > self.end {
            return Err(NvramError::Full);
        }
        self.bytes.get_mut(self.free..end).ok_or(NvramError::Full)?.copy_from_slice(&variable);
        self.free = aligned(end);
        Ok(())
    }
}

fn aligned(offset: usize) -> usize {
    offset.next_multiple_of(4)
}

#[cfg(test)]
mod tests;
