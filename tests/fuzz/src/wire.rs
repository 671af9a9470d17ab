//! DHCPv6 on both sides of the server: messages composed of choices, and answers read with the walk alone.

use std::net::Ipv6Addr;

use dhcproto::v6::Message as Decoded;
use dhcproto::{Decodable, Decoder};
use netboot_proto::wire::dhcp6::MAX_ANSWER;
use netboot_proto::wire::walk::{self, code};

use crate::Input;
use crate::place::{prefix, server_id};

const KINDS: [u8; 12] = [1, 3, 4, 5, 6, 8, 9, 11, 2, 7, 12, 13];
const WANTED: [u16; 12] = [
    code::BOOTFILE_URL,
    code::DNS_SERVERS,
    code::DOMAIN_LIST,
    code::SNTP_SERVERS,
    code::NTP_SERVER,
    code::SOL_MAX_RT,
    code::INF_MAX_RT,
    code::INFORMATION_REFRESH_TIME,
    code::VENDOR_CLASS,
    12,
    60,
    88,
];
const MAX_OPTIONS: u8 = 40;

/// An answer, as octets say it.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) kind: u8,
    pub(crate) xid: [u8; 3],
    /// In the order in which they came.
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

/// A datagram: any octets, or a message whose lengths add up.
pub(crate) fn datagram(input: &mut Input<'_>) -> Vec<u8> {
    if input.octet().is_multiple_of(4) {
        return input.blob().to_vec();
    }
    let mut message = vec![input.pick(&KINDS), 0, 0, input.octet()];
    let options = input.octet() % MAX_OPTIONS;
    for _ in 0..options {
        let (code, body) = option(input);
        put(&mut message, code, &body);
    }
    message
}

fn option(input: &mut Input<'_>) -> (u16, Vec<u8>) {
    match input.octet() % 16 {
        0 | 1 => (code::CLIENTID, [&[0, 4, 1], &input.array::<4>()[..]].concat()),
        2 => (code::CLIENTID, input.blob().to_vec()),
        3 | 4 => (code::SERVERID, server_id().as_bytes().to_vec()),
        5 => (code::SERVERID, input.blob().to_vec()),
        6 | 7 => (code::IA_NA, association(input, 8)),
        8 => (code::IA_PD, association(input, 8)),
        9 => (code::IA_TA, association(input, 0)),
        10 => {
            let wanted = (0..input.octet() % 16).flat_map(|_| input.pick(&WANTED).to_be_bytes());
            (code::ORO, wanted.collect())
        }
        11 => (code::RAPID_COMMIT, Vec::new()),
        12 => (code::USER_CLASS, item(input.pick(&[&b"iPXE"[..], b"HTTPClient", b""]))),
        13 => {
            let enterprise = [0, 0, 1, input.pick(&[0x57, 0x37])];
            let classes = [&b"HTTPClient:Arch:00016"[..], b"PXEClient:Arch:00007", b"HTTPClient", b""];
            (code::VENDOR_CLASS, [&enterprise[..], &item(input.pick(&classes))].concat())
        }
        14 => {
            let numbers = (0..input.octet() % 4).flat_map(|_| [0, input.pick(&[7, 9, 11, 16, 19, 0, 255])]);
            (code::CLIENT_ARCH_TYPE, numbers.collect())
        }
        _ => (input.short(), input.blob().to_vec()),
    }
}

/// The body of an association whose number is followed by `times` octets.
fn association(input: &mut Input<'_>, times: usize) -> Vec<u8> {
    let mut body = vec![0, 0, 0, input.octet()];
    body.extend(std::iter::repeat_n(0xee, times));
    for _ in 0..input.octet() % 12 {
        let address = match input.octet() % 8 {
            0..=4 => prefix().far(),
            5 => prefix().near(),
            6 => Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, input.short()),
            _ => {
                put(&mut body, input.short(), input.blob());
                continue;
            }
        };
        put(&mut body, code::IAADDR, &[&address.octets()[..], &[0; 8]].concat());
    }
    body
}

fn item(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).unwrap().to_be_bytes()[..], octets].concat()
}

fn put(out: &mut Vec<u8>, code: u16, body: &[u8]) {
    let body = &body[..body.len().min(usize::from(u16::MAX))];
    out.extend(code.to_be_bytes());
    out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    out.extend(body);
}

// === impl Heard ===

impl Heard {
    /// Reads an answer: its lengths add up, the codec finds as many options, and it fits every link.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let walked = walk::walk(bytes).expect("an answer's lengths add up");
        let decoded = Decoded::decode(&mut Decoder::new(bytes)).expect("the codec reads an answer");
        assert_eq!(decoded.opts().iter().count(), walked.options.len(), "the codec finds other options");
        assert!(bytes.len() <= MAX_ANSWER, "an answer of {} octets", bytes.len());
        let options = walked.options.iter().map(|option| (option.code, option.body.to_vec())).collect();
        Self { kind: walked.kind, xid: walked.xid, options }
    }

    pub(crate) fn option(&self, code: u16) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| *known == code).map(|(_, body)| &body[..])
    }

    /// Every address of every association for addresses, with its preferred and its valid lifetime.
    pub(crate) fn addresses(&self) -> Vec<(Ipv6Addr, u32, u32)> {
        let mut addresses = Vec::new();
        for (_, body) in self.options.iter().filter(|(known, _)| *known == code::IA_NA) {
            let nested = walk::walk_options(&body[12..]).expect("it was walked as a part of the answer");
            for option in nested.iter().filter(|option| option.code == code::IAADDR) {
                let address = Ipv6Addr::from(*option.body.first_chunk::<16>().unwrap());
                let number = |at: usize| u32::from_be_bytes(*option.body[at..].first_chunk().unwrap());
                addresses.push((address, number(16), number(20)));
            }
        }
        addresses
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.option(code::STATUS_CODE).map(|body| u16::from_be_bytes([body[0], body[1]]))
    }
}
