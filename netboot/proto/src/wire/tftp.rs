//! TFTP packets `[RFC 1350]` and their options `[RFC 2347]`.

use bytes::{BufMut, Bytes, BytesMut};

/// Octets in front of a block's data.
pub const DATA_HEADER: usize = 4;
/// The longest request that is read: file name, mode and options.
const MAX_REQUEST: usize = 1024;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// It wants to read.
    Read(ReadRequest),
    /// It wants to write.
    Write,
    /// It has every block up to this one.
    Ack(u16),
    /// It gives up.
    Error {
        /// Why, by number.
        code: u16,
        /// Why, in words.
        message: String,
    },
    /// Something that only servers send.
    Unexpected(u16),
    /// What is no packet of TFTP.
    Malformed,
}

/// A read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file's name as the client wrote it.
    pub file: String,
    /// The mode in lower case.
    pub mode: String,
    /// Option names in lower case, with their values, in order.
    pub options: Vec<(String, String)>,
}

/// The error codes of `[RFC 1350 § 5]` and `[RFC 2347]` that are sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// See the message.
    Undefined,
    /// No such file.
    FileNotFound,
    /// Not allowed.
    AccessViolation,
    /// An operation that is none.
    IllegalOperation,
    /// A packet of another transfer.
    UnknownTransfer,
}

// === impl Packet ===

impl Packet {
    /// Reads a packet.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let Some((opcode, rest)) = bytes.split_first_chunk::<2>() else { return Self::Malformed };
        match u16::from_be_bytes(*opcode) {
            1 => ReadRequest::parse(rest).map_or(Self::Malformed, Self::Read),
            2 => Self::Write,
            4 => {
                rest.first_chunk::<2>().map_or(Self::Malformed, |block| Self::Ack(u16::from_be_bytes(*block)))
            }
            5 => {
                // However short: nothing may be answered to it.
                let (code, text) = rest.split_first_chunk::<2>().unwrap_or((&[0, 0], &[]));
                let text = text.split(|octet| *octet == 0).next().unwrap_or_default();
                let text = String::from_utf8_lossy(text);
                let message = text.chars().filter(|c| !c.is_control()).take(80).collect();
                Self::Error { code: u16::from_be_bytes(*code), message }
            }
            opcode @ (3 | 6) => Self::Unexpected(opcode),
            _ => Self::Malformed,
        }
    }
}

// === impl ReadRequest ===

impl ReadRequest {
    fn parse(bytes: &[u8]) -> Option<Self> {
        // Every string ends in a zero octet, the last one too.
        let strings = bytes.strip_suffix(&[0]).filter(|strings| strings.len() < MAX_REQUEST)?;
        let strings = strings.split(|octet| *octet == 0);
        let mut strings = strings.map(|octets| str::from_utf8(octets).ok());
        let file = strings.next()??.to_owned();
        let mode = strings.next()??.to_ascii_lowercase();
        let mut options: Vec<(String, String)> = Vec::new();
        while let (Some(Some(name)), Some(Some(value))) = (strings.next(), strings.next()) {
            let name = name.to_ascii_lowercase();
            // An option may come once [RFC 2347]; the first one counts.
            if !options.iter().any(|(known, _)| *known == name) {
                options.push((name, value.to_owned()));
            }
        }
        Some(Self { file, mode, options })
    }
}

/// An ERROR packet.
#[must_use]
pub fn error(code: ErrorCode, message: &str) -> Bytes {
    let number: u16 = match code {
        ErrorCode::Undefined => 0,
        ErrorCode::FileNotFound => 1,
        ErrorCode::AccessViolation => 2,
        ErrorCode::IllegalOperation => 4,
        ErrorCode::UnknownTransfer => 5,
    };
    let mut out = BytesMut::new();
    out.put_u16(5);
    out.put_u16(number);
    out.put_slice(message.as_bytes());
    out.put_u8(0);
    out.freeze()
}

/// An OACK packet.
#[must_use]
pub fn oack(options: &[(&str, u64)]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u16(6);
    for (name, value) in options {
        out.put_slice(name.as_bytes());
        out.put_u8(0);
        out.put_slice(value.to_string().as_bytes());
        out.put_u8(0);
    }
    out.freeze()
}

/// The header of a DATA packet.
#[must_use]
pub fn data_header(block: u16) -> [u8; DATA_HEADER] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

#[cfg(test)]
mod tests;
