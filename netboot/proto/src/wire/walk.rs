//! A strict walk over a DHCPv6 client's message, in front of the codec.
//!
//! `dhcproto` stops at the first option that it cannot read and says nothing, ignores the length of options of
//! a fixed size, and subtracts lengths without looking. So no octet gets there before this walk has seen that
//! every length adds up, at every level that is read `[RFC 9915 § 21.1]`.

/// The longest DUID: a type and 128 octets `[RFC 9915 § 11.1]`.
pub const MAX_DUID: usize = 130;
/// Message, association, address: nothing that is read here lies deeper.
const MAX_DEPTH: usize = 3;
const HEADER: usize = 4;
const OPTION_HEADER: usize = 4;

/// The option codes that are read here, by their names in the RFCs.
pub mod code {
    /// Client identifier.
    pub const CLIENTID: u16 = 1;
    /// Server identifier.
    pub const SERVERID: u16 = 2;
    /// Identity association for addresses.
    pub const IA_NA: u16 = 3;
    /// Identity association for temporary addresses.
    pub const IA_TA: u16 = 4;
    /// An address of an identity association.
    pub const IAADDR: u16 = 5;
    /// Which options the client wants.
    pub const ORO: u16 = 6;
    /// How much a server is preferred.
    pub const PREFERENCE: u16 = 7;
    /// How long the client has been trying.
    pub const ELAPSED_TIME: u16 = 8;
    /// How something went.
    pub const STATUS_CODE: u16 = 13;
    /// Two messages instead of four.
    pub const RAPID_COMMIT: u16 = 14;
    /// User class.
    pub const USER_CLASS: u16 = 15;
    /// Vendor class.
    pub const VENDOR_CLASS: u16 = 16;
    /// DNS servers `[RFC 3646 § 3]`.
    pub const DNS_SERVERS: u16 = 23;
    /// Domains to look for short names in `[RFC 3646 § 4]`.
    pub const DOMAIN_LIST: u16 = 24;
    /// Identity association for prefixes.
    pub const IA_PD: u16 = 25;
    /// A prefix of an identity association.
    pub const IAPREFIX: u16 = 26;
    /// SNTP servers `[RFC 4075 § 4]`.
    pub const SNTP_SERVERS: u16 = 31;
    /// When to ask for information again.
    pub const INFORMATION_REFRESH_TIME: u16 = 32;
    /// An NTP server `[RFC 5908 § 4]`.
    pub const NTP_SERVER: u16 = 56;
    /// Where the boot file is `[RFC 5970 § 3.1]`.
    pub const BOOTFILE_URL: u16 = 59;
    /// The client's architecture `[RFC 5970 § 3.3]`.
    pub const CLIENT_ARCH_TYPE: u16 = 61;
    /// The longest wait between two Solicits.
    pub const SOL_MAX_RT: u16 = 82;
    /// The longest wait between two Information-requests.
    pub const INF_MAX_RT: u16 = 83;
}

/// One option: a code and its octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its code.
    pub code: u16,
    /// What it holds.
    pub body: &'a [u8],
    /// Code, length and body as they came.
    pub whole: &'a [u8],
}

/// A message whose lengths add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked<'a> {
    /// The message type.
    pub kind: u8,
    /// The transaction.
    pub xid: [u8; 3],
    /// Its options in the order in which they came.
    pub options: Vec<Tlv<'a>>,
}

/// Where a message does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// Shorter than a message's header.
    #[error("{0} octets are no message")]
    Short(usize),
    /// An option is longer than what holds it.
    #[error("option {code} says {said} octets and {left} are left")]
    Overrun {
        /// The option.
        code: u16,
        /// Its length field.
        said: usize,
        /// What is left.
        left: usize,
    },
    /// Octets behind the last option that are no option.
    #[error("{0} octets behind the last option")]
    Trailing(usize),
    /// An option's length is not one that its format has.
    #[error("option {code} cannot have {len} octets")]
    Length {
        /// The option.
        code: u16,
        /// Its length.
        len: usize,
    },
    /// An option that may come once came again.
    #[error("option {0} came twice")]
    Twice(u16),
    /// Options inside options, deeper than any format has them.
    #[error("option {0} lies too deep")]
    Deep(u16),
    /// The codec refused an option that had passed the walk.
    #[error("option {0} cannot be read")]
    Codec(u16),
}

/// Walks a whole message.
///
/// # Errors
///
/// The first place where it does not add up.
pub fn walk(bytes: &[u8]) -> Result<Walked<'_>, WalkError> {
    let Some((&[kind, a, b, c], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(WalkError::Short(bytes.len()));
    };
    let options = walk_options(rest)?;
    for single in [code::CLIENTID, code::SERVERID, code::ORO, code::RAPID_COMMIT, code::CLIENT_ARCH_TYPE] {
        if options.iter().filter(|option| option.code == single).count() > 1 {
            return Err(WalkError::Twice(single));
        }
    }
    Ok(Walked { kind, xid: [a, b, c], options })
}

/// Walks the options that fill `bytes`.
///
/// # Errors
///
/// The first place where they do not add up.
pub fn walk_options(bytes: &[u8]) -> Result<Vec<Tlv<'_>>, WalkError> {
    walk_at(bytes, 1)
}

fn walk_at(bytes: &[u8], depth: usize) -> Result<Vec<Tlv<'_>>, WalkError> {
    let mut options = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((&[c0, c1, l0, l1], body)) = rest.split_first_chunk::<OPTION_HEADER>() else {
            return Err(WalkError::Trailing(rest.len()));
        };
        let (code, len) = (u16::from_be_bytes([c0, c1]), usize::from(u16::from_be_bytes([l0, l1])));
        let overrun = WalkError::Overrun { code, said: len, left: body.len() };
        let (body, after) = body.split_at_checked(len).ok_or(overrun)?;
        let (whole, _) = rest.split_at_checked(OPTION_HEADER + len).ok_or(overrun)?;
        check(code, body, depth)?;
        options.push(Tlv { code, body, whole });
        rest = after;
    }
    Ok(options)
}

/// Checks the length of one option against its format.
fn check(code: u16, body: &[u8], depth: usize) -> Result<(), WalkError> {
    let len = body.len();
    let good = match code {
        code::CLIENTID | code::SERVERID => (3..=MAX_DUID).contains(&len),
        code::IA_NA | code::IA_PD => return check_nested(code, body, 12, depth),
        code::IA_TA => return check_nested(code, body, 4, depth),
        code::IAADDR => return check_nested(code, body, 24, depth),
        code::IAPREFIX => return check_nested(code, body, 25, depth),
        code::ORO => len.is_multiple_of(2),
        code::PREFERENCE => len == 1,
        code::ELAPSED_TIME => len == 2,
        code::STATUS_CODE => len >= 2,
        code::RAPID_COMMIT => len == 0,
        code::USER_CLASS => len > 0 && items_add_up(body),
        code::VENDOR_CLASS => body.split_first_chunk::<4>().is_some_and(|(_, items)| items_add_up(items)),
        code::DNS_SERVERS | code::SNTP_SERVERS => len > 0 && len.is_multiple_of(16),
        code::INFORMATION_REFRESH_TIME | code::SOL_MAX_RT | code::INF_MAX_RT => len == 4,
        code::CLIENT_ARCH_TYPE => len > 0 && len.is_multiple_of(2),
        _ => true,
    };
    if good { Ok(()) } else { Err(WalkError::Length { code, len }) }
}

/// Checks an option that is `fixed` octets and then more options.
fn check_nested(code: u16, body: &[u8], fixed: usize, depth: usize) -> Result<(), WalkError> {
    if depth == MAX_DEPTH {
        return Err(WalkError::Deep(code));
    }
    let error = WalkError::Length { code, len: body.len() };
    let (_, nested) = body.split_at_checked(fixed).ok_or(error)?;
    walk_at(nested, depth + 1).map(drop)
}

/// Whether octets are a row of items, each with its length before it.
fn items_add_up(mut items: &[u8]) -> bool {
    while let Some((&[high, low], rest)) = items.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let Some((_, rest)) = rest.split_at_checked(len) else { return false };
        items = rest;
    }
    items.is_empty()
}

#[cfg(test)]
pub(crate) mod tests;
