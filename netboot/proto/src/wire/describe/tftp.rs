//! TFTP `[RFC 1350]`, `[RFC 2347]`.

use super::{Description, malformed, text, u16_at};

/// A packet of TFTP in words.
#[must_use]
pub fn tftp(bytes: &[u8]) -> Description {
    let rest = bytes.get(2..).unwrap_or_default();
    match u16_at(bytes, 0) {
        Some(1) => request("TFTP RRQ (read request)", rest),
        Some(2) => request("TFTP WRQ (write request)", rest),
        Some(3) => {
            let mut said = numbered("TFTP DATA", rest);
            said.put("octets", rest.len().saturating_sub(2));
            said
        }
        Some(4) => numbered("TFTP ACK", rest),
        Some(5) => {
            let mut said = Description::new("TFTP ERROR");
            match u16_at(rest, 0) {
                Some(code) => said.put("code", code),
                None => said.put("packet", malformed(rest)),
            }
            let words = rest.get(2..).unwrap_or_default().split(|octet| *octet == 0).next();
            said.put("message", text(words.unwrap_or_default()));
            said
        }
        Some(6) => {
            let mut said = Description::new("TFTP OACK");
            put_pairs(&mut said, &strings(rest));
            said
        }
        _ => {
            let mut said = Description::new("TFTP: no packet of it");
            said.put("packet", malformed(bytes));
            said
        }
    }
}

fn request(name: &str, rest: &[u8]) -> Description {
    let mut said = Description::new(name);
    let strings = strings(rest);
    let (head, options) = strings.split_at(strings.len().min(2));
    for (name, value) in ["file", "mode"].into_iter().zip(head) {
        said.put(name, value);
    }
    put_pairs(&mut said, options);
    said
}

fn numbered(name: &str, rest: &[u8]) -> Description {
    let mut said = Description::new(name);
    match u16_at(rest, 0) {
        Some(block) => said.put("block", block),
        None => said.put("packet", malformed(rest)),
    }
    said
}

fn strings(bytes: &[u8]) -> Vec<String> {
    let whole = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    whole.split(|octet| *octet == 0).map(text).collect()
}

fn put_pairs(said: &mut Description, strings: &[String]) {
    for pair in strings.chunks(2) {
        if let [name, value] = pair {
            said.put("option", format!("{name} {value}"));
        } else {
            said.put("option without a value", pair.concat());
        }
    }
}
