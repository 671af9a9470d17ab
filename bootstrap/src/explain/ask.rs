//! What firmware of each kind asks, made up: a Solicit as EDK2 composes it.

use mesh::Mac;
use netboot_proto::wire::walk::code;

/// IANA's number of the enterprise under which UEFI's clients speak.
const INTEL: u32 = 343;
const SOLICIT: u8 = 1;
const TRANSACTION: [u8; 3] = [0, 0, 1];

/// A kind of firmware.
#[derive(Debug, Clone, Copy)]
pub struct Firmware {
    /// Its architecture, as it numbers it.
    pub number: u16,
    /// How it calls itself.
    class: &'static str,
}

/// Every architecture that boot files are made for, and one that there are none for.
pub const FIRMWARES: [Firmware; 6] = [
    Firmware { number: 7, class: "PXEClient" },
    Firmware { number: 9, class: "PXEClient" },
    Firmware { number: 16, class: "HTTPClient" },
    Firmware { number: 11, class: "PXEClient" },
    Firmware { number: 19, class: "HTTPClient" },
    Firmware { number: 6, class: "PXEClient" },
];

// === impl Firmware ===

impl Firmware {
    /// Its Solicit, from a port with this Ethernet address: a boot file (option 59) is among the options that it wants.
    #[must_use]
    pub fn solicit(self, mac: Mac) -> Vec<u8> {
        let mut message = [&[SOLICIT][..], &TRANSACTION].concat();
        let mut put = |code: u16, body: &[u8]| {
            message.extend(code.to_be_bytes());
            message.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
            message.extend(body);
        };
        // DUID-LL of Ethernet [RFC 9915 § 11.4].
        put(code::CLIENTID, &[&[0, 3, 0, 1][..], &mac.0].concat());
        put(code::ELAPSED_TIME, &[0, 0]);
        let [_, _, iaid @ ..] = mac.0;
        put(code::IA_NA, &[&iaid[..], &[0; 8]].concat());
        let wanted = [code::BOOTFILE_URL, code::DNS_SERVERS, code::VENDOR_CLASS];
        put(code::ORO, &wanted.map(u16::to_be_bytes).concat());
        put(code::CLIENT_ARCH_TYPE, &self.number.to_be_bytes());
        let class = format!("{}:Arch:{:05}:UNDI:003000", self.class, self.number);
        let len = u16::try_from(class.len()).unwrap_or(u16::MAX).to_be_bytes();
        put(code::VENDOR_CLASS, &[&INTEL.to_be_bytes()[..], &len, class.as_bytes()].concat());
        message
    }
}
