//! A DHCPv6 client for tests: it asks, and reads what it hears with the walk alone.

use std::net::{Ipv6Addr, SocketAddrV6};

use dhcproto::v6::Message as Decoded;
use dhcproto::{Decodable, Decoder};
use mesh::Mac;

use crate::effect::Peer;
use crate::wire::dhcp6::{ALL_SERVERS, CLIENT_PORT, MAX_ANSWER};
use crate::wire::walk::{self, Tlv, code};

/// A client's message.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) kind: u8,
    pub(super) xid: u8,
    pub(super) client_id: Vec<u8>,
    pub(super) server_id: Option<Vec<u8>>,
    pub(super) iaids: Vec<u32>,
    pub(super) addresses: Vec<Ipv6Addr>,
    pub(super) requested: Vec<u16>,
    pub(super) architecture: Option<u16>,
    pub(super) rapid: bool,
    pub(super) prefixes: bool,
    pub(super) temporary: bool,
    /// Further options, as they are.
    pub(super) further: Vec<(u16, Vec<u8>)>,
}

/// A server's message.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) kind: u8,
    pub(super) xid: [u8; 3],
    pub(super) options: Vec<(u16, Vec<u8>)>,
}

/// A station on the link.
pub(super) fn client(number: u8) -> Peer {
    let mac = Mac([2, 0, 0, 0, 9, number]);
    Peer {
        address: SocketAddrV6::new(mac.link_local(), CLIENT_PORT, 0, 3),
        mac: Some(mac),
        destination: ALL_SERVERS,
        hop_limit: None,
    }
}

// === impl Ask ===

impl Ask {
    /// A Solicit for one address.
    pub(super) fn new(xid: u8) -> Self {
        Self {
            kind: 1,
            xid,
            client_id: vec![0, 4, 1, 2, 3],
            server_id: None,
            iaids: vec![1],
            addresses: Vec::new(),
            requested: vec![59],
            architecture: None,
            rapid: false,
            prefixes: false,
            temporary: false,
            further: Vec::new(),
        }
    }

    /// The same as another message to this server.
    pub(super) fn again(&self, kind: u8, server_id: Option<Vec<u8>>) -> Self {
        Self { kind, server_id, ..self.clone() }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.kind, 0, 0, self.xid];
        let mut put = |code: u16, body: &[u8]| {
            out.extend(code.to_be_bytes());
            out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            out.extend(body);
        };
        if !self.client_id.is_empty() {
            put(code::CLIENTID, &self.client_id);
        }
        if let Some(id) = &self.server_id {
            put(code::SERVERID, id);
        }
        for iaid in &self.iaids {
            put(code::IA_NA, &association(*iaid, &self.addresses));
        }
        if self.temporary {
            put(code::IA_TA, &[0, 0, 0, 9]);
        }
        if self.prefixes {
            put(code::IA_PD, &[0; 12]);
        }
        let requested: Vec<u8> = self.requested.iter().flat_map(|code| code.to_be_bytes()).collect();
        put(code::ORO, &requested);
        if let Some(number) = self.architecture {
            put(code::CLIENT_ARCH_TYPE, &number.to_be_bytes());
        }
        if self.rapid {
            put(code::RAPID_COMMIT, &[]);
        }
        for (code, body) in &self.further {
            put(*code, body);
        }
        out
    }
}

/// The body of an IA_NA. Times and lifetimes are nonsense, which no server may read.
pub(super) fn association(iaid: u32, addresses: &[Ipv6Addr]) -> Vec<u8> {
    let mut body = [&iaid.to_be_bytes()[..], &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1]].concat();
    for address in addresses {
        body.extend([0, 5, 0, 24]);
        body.extend(address.octets());
        body.extend([0, 0, 0, 9, 0, 0, 0, 1]);
    }
    body
}

/// The body of a user or vendor class with one item, behind what is in front of it.
pub(super) fn class(front: &[u8], item: &[u8]) -> Vec<u8> {
    [front, &u16::try_from(item.len()).unwrap().to_be_bytes(), item].concat()
}

/// Reads an answer with the walk, and checks that the codec reads as many options.
pub(super) fn hear(bytes: &[u8]) -> Heard {
    let walked = walk::walk(bytes).unwrap();
    let decoded = Decoded::decode(&mut Decoder::new(bytes)).unwrap();
    assert_eq!(decoded.opts().iter().count(), walked.options.len());
    assert!(bytes.len() <= MAX_ANSWER, "it fits no link");
    let options = walked.options.iter().map(|option| (option.code, option.body.to_vec())).collect();
    Heard { kind: walked.kind, xid: walked.xid, options }
}

// === impl Heard ===

impl Heard {
    pub(super) fn option(&self, code: u16) -> Option<Vec<u8>> {
        self.options.iter().find(|(known, _)| *known == code).map(|(_, body)| body.clone())
    }

    /// The codes of all options, in order.
    pub(super) fn codes(&self) -> Vec<u16> {
        self.options.iter().map(|(code, _)| *code).collect()
    }

    /// T1 and T2 of every IA_NA and IA_PD.
    pub(super) fn times(&self) -> Vec<(u32, u32)> {
        let kinds = [code::IA_NA, code::IA_PD];
        let bodies = self.options.iter().filter(|(known, _)| kinds.contains(known)).map(|(_, body)| body);
        let number = |octets: &[u8]| u32::from_be_bytes(*octets.first_chunk().unwrap());
        bodies.map(|body| (number(&body[4..]), number(&body[8..]))).collect()
    }

    pub(super) fn url(&self) -> Option<String> {
        self.option(code::BOOTFILE_URL).map(|body| String::from_utf8(body).unwrap())
    }

    /// The status of the message, if it has one.
    pub(super) fn status(&self) -> Option<u16> {
        self.option(code::STATUS_CODE).map(|body| u16::from_be_bytes([body[0], body[1]]))
    }

    /// IAID, address and valid lifetime of every address that is given.
    pub(super) fn addresses(&self) -> Vec<(u32, Ipv6Addr, u32)> {
        let mut addresses = Vec::new();
        for (_, body) in self.options.iter().filter(|(known, _)| *known == code::IA_NA) {
            let iaid = u32::from_be_bytes(*body.first_chunk().unwrap());
            for option in nested(body, 12).iter().filter(|option| option.code == code::IAADDR) {
                let address = Ipv6Addr::from(*option.body.first_chunk::<16>().unwrap());
                let valid = u32::from_be_bytes(*option.body[20..].first_chunk().unwrap());
                addresses.push((iaid, address, valid));
            }
        }
        addresses
    }

    /// The status of one IA_NA.
    pub(super) fn association_status(&self, at: usize) -> Option<u16> {
        let mut associations = self.options.iter().filter(|(known, _)| *known == code::IA_NA);
        status_in(&nested(&associations.nth(at)?.1, 12))
    }

    /// The status of an association of another kind.
    pub(super) fn nested_status(&self, kind: u16) -> Option<u16> {
        let fixed = if kind == code::IA_TA { 4 } else { 12 };
        status_in(&nested(&self.option(kind)?, fixed))
    }
}

fn nested(body: &[u8], fixed: usize) -> Vec<Tlv<'_>> {
    walk::walk_options(&body[fixed..]).unwrap()
}

fn status_in(options: &[Tlv<'_>]) -> Option<u16> {
    let status = options.iter().find(|option| option.code == code::STATUS_CODE)?;
    Some(u16::from_be_bytes([status.body[0], status.body[1]]))
}
