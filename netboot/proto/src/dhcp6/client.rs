//! By what a client can be told from others before it has an address.

use mesh::Mac;

use crate::effect::Peer;
use crate::wire::dhcp6::Message;

/// A DUID that is made of a UUID `[RFC 6355 § 4]`.
const DUID_UUID: [u8; 2] = [0, 4];

/// What is known of a machine that asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Client {
    /// The Ethernet address of the port that it asks through.
    pub mac: Option<Mac>,
    /// The UUID that its DUID is made of, if it is made of one.
    pub uuid: Option<[u8; 16]>,
}

// === impl Client ===

impl Client {
    /// Who sent a datagram. One that is no client's message says nothing of it.
    #[must_use]
    pub fn of(from: &Peer, bytes: &[u8]) -> Self {
        let duid = Message::parse(bytes).ok().and_then(|message| message.client_id);
        let uuid = duid.and_then(|duid| duid.strip_prefix(&DUID_UUID)?.try_into().ok());
        Self { mac: from.mac, uuid }
    }

    /// The SMBIOS UUIDs that the machine may have, as octets in the order in which they are written. iPXE sends it like that,
    /// EDK2 as it lies in memory: the first three fields begin with their last octet `[SMBIOS 3.7 § 7.2.1]`.
    #[must_use]
    pub fn uuids(&self) -> Option<[[u8; 16]; 2]> {
        let octets = self.uuid?;
        let [a, b, c, d, e, f, g, h, rest @ ..] = octets;
        let [i, j, k, l, m, n, o, p] = rest;
        Some([octets, [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]])
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    /// A Solicit with this DUID.
    fn solicit(duid: &[u8]) -> Vec<u8> {
        let length = u8::try_from(duid.len()).unwrap();
        [&[1, 0, 0, 7, 0, 1, 0, length], duid].concat()
    }

    #[test]
    fn a_machine_is_known_by_the_uuid_in_its_duid_in_either_order() {
        let mac = Some(Mac([2, 0, 0, 0, 0, 9]));
        let peer = Peer {
            address: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 546, 0, 0),
            mac,
            destination: Ipv6Addr::UNSPECIFIED,
            hop_limit: None,
        };
        let uuid: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let memory = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        let client = |duid: &[u8]| Client::of(&peer, &solicit(duid));
        let ipxe = client(&[&DUID_UUID[..], &uuid].concat());
        assert_eq!(ipxe.uuids(), Some([uuid, memory]));
        let edk2 = client(&[&DUID_UUID[..], &memory].concat());
        assert_eq!(edk2.uuids(), Some([memory, uuid]));
        // systemd-networkd's, one that is too short, and one of another kind.
        for duid in [&[0, 2, 0, 0, 0xab, 0x11, 1, 2][..], &[0, 4, 1, 2], &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9]] {
            assert_eq!(client(duid), Client { mac, uuid: None });
        }
        assert_eq!(Client::of(&peer, b"no message"), Client { mac, uuid: None });
    }
}
