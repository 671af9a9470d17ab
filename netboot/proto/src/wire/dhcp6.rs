//! DHCPv6 messages: what a client says, and what a server answers `[RFC 9915]`.

mod answer;

use std::net::Ipv6Addr;

use dhcproto::v6::DhcpOption;
use dhcproto::{Decodable, Decoder};

use super::walk::{self, Tlv, WalkError, code};

pub use answer::{Answer, AnswerKind, Granted, Lifetimes, MAX_ANSWER};

/// What a relay agent wraps a client's message in `[RFC 9915 § 7.3]`.
const RELAY_FORWARD: u8 = 12;

/// Where servers and relays listen.
pub const SERVER_PORT: u16 = 547;
/// Where clients listen.
pub const CLIENT_PORT: u16 = 546;
/// All_DHCP_Relay_Agents_and_Servers `[RFC 9915 § 7.1]`.
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who is there?
    Solicit,
    /// I take what you advertised.
    Request,
    /// Is my address still right on this link?
    Confirm,
    /// May I keep it?
    Renew,
    /// May I keep it, whoever hears me?
    Rebind,
    /// I need it no more.
    Release,
    /// Somebody else has it.
    Decline,
    /// I need no address, only options.
    InformationRequest,
}

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it wants.
    pub kind: Kind,
    /// The transaction.
    pub xid: [u8; 3],
    /// The client's DUID.
    pub client_id: Option<Vec<u8>>,
    /// The DUID of the server that it speaks to.
    pub server_id: Option<Vec<u8>>,
    /// Its identity associations in the order in which they came.
    pub associations: Vec<Association>,
    /// Which options it wants.
    pub requested: Vec<u16>,
    /// Whether it takes a Reply to its Solicit.
    pub rapid_commit: bool,
    /// Its user classes.
    pub user_classes: Vec<Vec<u8>>,
    /// Its vendor classes.
    pub vendor_classes: Vec<VendorClass>,
    /// Its architectures.
    pub architectures: Vec<u16>,
}

/// A vendor class: an enterprise and what it has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorClass {
    /// IANA's number of the enterprise.
    pub enterprise: u32,
    /// The class data.
    pub data: Vec<Vec<u8>>,
}

/// An identity association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// What it is for.
    pub kind: AssociationKind,
    /// Its number, chosen by the client.
    pub iaid: u32,
    /// The addresses that the client has or wants; of prefixes, only that there are some matters.
    pub addresses: Vec<Ipv6Addr>,
}

/// What an identity association is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssociationKind {
    /// Addresses.
    Addresses,
    /// Temporary addresses, which RFC 9915 made obsolete.
    Temporary,
    /// Prefixes.
    Prefixes,
}

/// Why a datagram is no client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It does not add up.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A type that only servers or relays send, or none that is known.
    #[error("message type {0} is not a client's")]
    NotAClients(u8),
    /// A client's message, wrapped by a relay agent.
    #[error("it was relayed")]
    Relayed,
}

// === impl Kind ===

impl Kind {
    fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            1 => Self::Solicit,
            3 => Self::Request,
            4 => Self::Confirm,
            5 => Self::Renew,
            6 => Self::Rebind,
            8 => Self::Release,
            9 => Self::Decline,
            11 => Self::InformationRequest,
            _ => return None,
        })
    }

    /// The RFC's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Solicit => "Solicit",
            Self::Request => "Request",
            Self::Confirm => "Confirm",
            Self::Renew => "Renew",
            Self::Rebind => "Rebind",
            Self::Release => "Release",
            Self::Decline => "Decline",
            Self::InformationRequest => "Information-request",
        }
    }
}

// === impl Message ===

impl Message {
    /// Reads a client's message.
    ///
    /// # Errors
    ///
    /// It is no client's, or it does not add up.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        // First of all: what is not a client's has a header of its own.
        let kind = match bytes.first().copied() {
            Some(RELAY_FORWARD) => return Err(ParseError::Relayed),
            Some(octet) => Kind::from_octet(octet).ok_or(ParseError::NotAClients(octet))?,
            None => return Err(WalkError::Short(0).into()),
        };
        let walked = walk::walk(bytes)?;
        let mut message = Self {
            kind,
            xid: walked.xid,
            client_id: None,
            server_id: None,
            associations: Vec::new(),
            requested: Vec::new(),
            rapid_commit: false,
            user_classes: Vec::new(),
            vendor_classes: Vec::new(),
            architectures: Vec::new(),
        };
        for option in &walked.options {
            message.take(option)?;
        }
        Ok(message)
    }

    fn take(&mut self, tlv: &Tlv<'_>) -> Result<(), WalkError> {
        match tlv.code {
            code::CLIENTID => self.client_id = Some(tlv.body.to_vec()),
            code::SERVERID => self.server_id = Some(tlv.body.to_vec()),
            code::RAPID_COMMIT => self.rapid_commit = true,
            code::IA_NA => self.associations.push(association(AssociationKind::Addresses, tlv.body, 12)?),
            code::IA_TA => self.associations.push(association(AssociationKind::Temporary, tlv.body, 4)?),
            code::IA_PD => self.associations.push(association(AssociationKind::Prefixes, tlv.body, 12)?),
            code::ORO | code::USER_CLASS | code::VENDOR_CLASS | code::CLIENT_ARCH_TYPE => {
                self.take_typed(decode(tlv)?);
            }
            _ => {}
        }
        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`take` hands over four kinds and the codec has forty"
    )]
    fn take_typed(&mut self, option: DhcpOption) {
        match option {
            DhcpOption::ORO(oro) => self.requested = oro.opts.into_iter().map(u16::from).collect(),
            DhcpOption::UserClass(class) => self.user_classes.extend(class.data),
            DhcpOption::VendorClass(class) => {
                self.vendor_classes.push(VendorClass { enterprise: class.num, data: class.data });
            }
            DhcpOption::ClientArchType(types) => {
                self.architectures = types.into_iter().map(|arch| arch.0).collect();
            }
            _ => {}
        }
    }

    /// Whether the client asked for an option.
    #[must_use]
    pub fn wants(&self, code: u16) -> bool {
        self.requested.contains(&code)
    }
}

/// Hands one option that passed the walk to the codec.
fn decode(tlv: &Tlv<'_>) -> Result<DhcpOption, WalkError> {
    let mut decoder = Decoder::new(tlv.whole);
    let option = DhcpOption::decode(&mut decoder).map_err(|_| WalkError::Codec(tlv.code))?;
    if decoder.buffer().is_empty() { Ok(option) } else { Err(WalkError::Codec(tlv.code)) }
}

fn association(kind: AssociationKind, body: &[u8], fixed: usize) -> Result<Association, WalkError> {
    let short = WalkError::Short(body.len());
    let (iaid, _) = body.split_first_chunk::<4>().ok_or(short)?;
    let (_, nested) = body.split_at_checked(fixed).ok_or(short)?;
    let mut addresses = Vec::new();
    for tlv in walk::walk_options(nested)? {
        if tlv.code == code::IAADDR
            && let Some((octets, _)) = tlv.body.split_first_chunk::<16>()
        {
            addresses.push(Ipv6Addr::from(*octets));
        }
    }
    Ok(Association { kind, iaid: u32::from_be_bytes(*iaid), addresses })
}

#[cfg(test)]
mod tests;
