//! DHCPv6 messages: what a client says, and what a server answers `[RFC 9915]`.

use std::net::Ipv6Addr;

use bytes::Bytes;
use dhcproto::v6::{DhcpOption, IAAddr, IANA, IAPD, IATA, OptionCode, Status, StatusCode, UnknownOption};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

use super::walk::{self, Tlv, WalkError, code};

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

/// How a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// You could have this.
    Advertise,
    /// You have this.
    Reply,
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
    /// Temporary addresses, which RFC 9915 dropped.
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
}

/// Lifetimes of an address, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// How long it is preferred.
    pub preferred: u32,
    /// How long it is valid.
    pub valid: u32,
}

/// What an answer says of one identity association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// What it is for.
    pub kind: AssociationKind,
    /// Its number.
    pub iaid: u32,
    /// Addresses, each with its lifetimes.
    pub addresses: Vec<(Ipv6Addr, Lifetimes)>,
    /// A status other than success.
    pub status: Option<(Status, &'static str)>,
}

/// A server's message. Its options go out in the order of their codes, each with the length that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How the server speaks.
    pub kind: AnswerKind,
    /// The client's transaction.
    pub xid: [u8; 3],
    options: Vec<DhcpOption>,
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
        let walked = walk::walk(bytes)?;
        let kind = Kind::from_octet(walked.kind).ok_or(ParseError::NotAClients(walked.kind))?;
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

// === impl Answer ===

impl Answer {
    /// An answer with no options yet.
    #[must_use]
    pub fn new(kind: AnswerKind, xid: [u8; 3]) -> Self {
        Self { kind, xid, options: Vec::new() }
    }

    /// Adds the client's DUID.
    pub fn client_id(&mut self, duid: &[u8]) {
        self.options.push(DhcpOption::ClientId(duid.to_vec()));
    }

    /// Adds the server's DUID.
    pub fn server_id(&mut self, duid: &[u8]) {
        self.options.push(DhcpOption::ServerId(duid.to_vec()));
    }

    /// Adds how much the server wants to be chosen.
    pub fn preference(&mut self, preference: u8) {
        self.options.push(DhcpOption::Preference(preference));
    }

    /// Says that the four-message exchange ends with this Reply.
    pub fn rapid_commit(&mut self) {
        self.options.push(DhcpOption::RapidCommit);
    }

    /// Adds a status for the whole message.
    pub fn status(&mut self, status: Status, text: &str) {
        self.options.push(status_option(status, text));
    }

    /// Adds what becomes of an identity association.
    pub fn association(&mut self, granted: &Granted) {
        let addresses = granted.addresses.iter().map(|(addr, lifetimes)| {
            DhcpOption::IAAddr(IAAddr {
                addr: *addr,
                preferred_life: lifetimes.preferred,
                valid_life: lifetimes.valid,
                opts: std::iter::empty().collect(),
            })
        });
        let status = granted.status.map(|(status, text)| status_option(status, text));
        // T1 and T2 are 0.5 and 0.8 of the shortest preferred lifetime that is granted [RFC 9915 § 21.4].
        let preferred = granted.addresses.iter().map(|(_, times)| times.preferred).filter(|time| *time > 0);
        let preferred = preferred.min().unwrap_or(0);
        let (id, t1, t2) = (granted.iaid, preferred / 2, preferred / 5 * 4);
        let opts = addresses.chain(status).collect();
        self.options.push(match granted.kind {
            AssociationKind::Addresses => DhcpOption::IANA(IANA { id, t1, t2, opts }),
            AssociationKind::Temporary => DhcpOption::IATA(IATA { id, opts }),
            AssociationKind::Prefixes => DhcpOption::IAPD(IAPD { id, t1: 0, t2: 0, opts }),
        });
    }

    /// Adds where the boot file is `[RFC 5970 § 3.1]`.
    pub fn bootfile_url(&mut self, url: &str) {
        self.raw(code::BOOTFILE_URL, url.as_bytes().to_vec());
    }

    /// Adds which of the client's architectures the boot file is for `[RFC 5970 § 3.3]`.
    pub fn architecture(&mut self, number: u16) {
        self.raw(code::CLIENT_ARCH_TYPE, number.to_be_bytes().to_vec());
    }

    /// Adds a vendor class with one item.
    pub fn vendor_class(&mut self, enterprise: u32, data: &'static [u8]) {
        let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
        let body = [&enterprise.to_be_bytes()[..], &len.to_be_bytes(), data].concat();
        self.raw(code::VENDOR_CLASS, body);
    }

    /// Adds DNS servers.
    pub fn dns_servers(&mut self, servers: &[Ipv6Addr]) {
        self.options.push(DhcpOption::DomainNameServers(servers.to_vec()));
    }

    /// Adds an option that is a number of seconds.
    pub fn seconds(&mut self, code: u16, seconds: u32) {
        self.raw(code, seconds.to_be_bytes().to_vec());
    }

    /// The codec's encoders of options 15, 16 and others count items where the format counts octets, so all
    /// of the boot options go out as octets.
    fn raw(&mut self, code: u16, body: Vec<u8>) {
        self.options.push(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), body)));
    }

    /// The datagram.
    #[must_use]
    pub fn emit(mut self) -> Bytes {
        let kind = match self.kind {
            AnswerKind::Advertise => 2,
            AnswerKind::Reply => 7,
        };
        // Stable: associations stay in the client's order. iPXE reads only the first, and EDK2 reads option 59 up
        // to the next zero octet, which the next code's high octet is as long as codes are below 256.
        self.options.sort_by_key(|option| u16::from(OptionCode::from(option)));
        let [a, b, c] = self.xid;
        let mut datagram = vec![kind, a, b, c];
        for option in &self.options {
            let mut octets = Vec::new();
            option
                .encode(&mut Encoder::new(&mut octets))
                .expect("encoding into a vector fails only for names, and there are none");
            datagram.append(&mut octets);
        }
        Bytes::from(datagram)
    }
}

fn status_option(status: Status, text: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: text.to_owned() })
}

#[cfg(test)]
mod tests;
