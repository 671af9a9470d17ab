//! May a request for a certificate be granted to the bootstrap token that made it?
//!
//! Pure: bytes, words and the time in, a [`Verdict`] out. What a token of a machine asks for is compared with the one
//! thing that it may have, the client certificate of its node's kubelet, octet by octet: kube-controller-manager, which
//! signs the request, reads it with another parser, and must not be able to read another name in it. A kubelet of any
//! version asks for exactly this; Kubernetes' own approver is a little more lenient (it minds no attributes and no
//! further words in the subject).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use mesh::NodeName;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::{GROUP, Grant, NoGrant};

/// What the user name of a bootstrap token begins with; its identifier follows.
pub const TOKEN_USER: &str = "system:bootstrap:";
/// The signer of kubelets' client certificates.
pub const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// The usages of a kubelet's client certificate, and the one that only RSA keys need.
const USAGES: [&str; 2] = ["client auth", "digital signature"];
const RSA_USAGE: &str = "key encipherment";

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----\n";
const PEM_END: &str = "\n-----END CERTIFICATE REQUEST-----";

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// 2.5.4.10 and 2.5.4.3, as object identifiers are written `[X.690 § 8.19]`.
const ORGANISATION: [u8; 5] = [6, 3, 0x55, 4, 10];
const COMMON_NAME: [u8; 5] = [6, 3, 0x55, 4, 3];
/// UTF8String and PrintableString. Kubelets use the second.
const TEXTS: [u8; 2] = [0x0c, 0x13];
/// The empty set of a request's attributes `[RFC 2986 § 4.1]`. Alternative names would be one of them.
const NO_ATTRIBUTES: [u8; 2] = [0xa0, 0];

/// How much of what a stranger wrote is repeated.
const MAX_SHOWN: usize = 100;

/// A request for a certificate, as the API server has it. Who made it is the API server's word.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who is to sign.
    pub signer: &'a str,
    /// Who made it.
    pub username: &'a str,
    /// The groups of who made it.
    pub groups: &'a [String],
    /// What the certificate is to be used for.
    pub usages: &'a [String],
    /// The PKCS #10 request, in PEM.
    pub pem: &'a [u8],
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is granted: the certificate is this node's.
    Approve(NodeName),
    /// It is not, and never will be.
    Deny(Denial),
    /// It is no business of ours.
    Ignore(Ignored),
}

/// Why a request of a machine's token is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The token grants nothing.
    #[error(transparent)]
    NoGrant(NoGrant),
    /// The token's time is over.
    #[error(
        "its token, which was for {node}, ended at {expires}: restart the machine, which gives it another"
    )]
    Expired {
        /// Whose it was.
        node: NodeName,
        /// When it ended.
        expires: Timestamp,
    },
    /// It is for another signer.
    #[error("a machine's token is for its kubelet's client certificate, and this is to be signed by {0}")]
    OtherSigner(String),
    /// It is not what a kubelet writes, or nothing that can be read.
    #[error("it is no certificate request as kubelets write them")]
    Malformed,
    /// It is for another name.
    #[error("its token is for system:node:{node} (of system:nodes) alone, and it asks for: {asked}")]
    OtherName {
        /// Whose the token is.
        node: NodeName,
        /// The subject that it asks for.
        asked: String,
    },
    /// It asks for more than a name.
    #[error("it asks for more than the name of {node}, such as alternative names: kubelets do not")]
    MoreThanAName {
        /// Whose the token is.
        node: NodeName,
    },
    /// Its certificate would be good for something else.
    #[error(
        "its certificate is to be used for: {0}; that of a kubelet is for client auth and digital signature"
    )]
    OtherUsages(String),
}

/// Why a request is left to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// No bootstrap token made it.
    #[error("it was not made with a bootstrap token")]
    OtherUser,
    /// A bootstrap token made it that is none of a machine's.
    #[error("its bootstrap token is none of a machine's: Kubernetes itself decides")]
    OtherToken,
}

/// Decides. `grant` is what is known of the token that [`Request::token_id`] names.
#[must_use]
pub fn decide(request: &Request<'_>, grant: Result<&Grant, NoGrant>, now: Timestamp) -> Verdict {
    if let Err(ignored) = request.token_id() {
        return Verdict::Ignore(ignored);
    }
    let judged = grant.map_err(Denial::NoGrant).and_then(|grant| {
        judge(request, grant, now)?;
        Ok(grant.node.clone())
    });
    judged.map_or_else(Verdict::Deny, Verdict::Approve)
}

fn judge(request: &Request<'_>, grant: &Grant, now: Timestamp) -> Result<(), Denial> {
    let node = &grant.node;
    if now >= grant.expires {
        return Err(Denial::Expired { node: node.clone(), expires: grant.expires });
    }
    if request.signer != SIGNER {
        return Err(Denial::OtherSigner(shown(request.signer)));
    }
    let der = der_of(request.pem).ok_or(Denial::Malformed)?;
    let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|_| Denial::Malformed)?;
    if !rest.is_empty() {
        return Err(Denial::Malformed);
    }
    let info = &parsed.certification_request_info;
    if subjects(node).iter().all(|subject| subject != info.subject.as_raw()) {
        return Err(Denial::OtherName { node: node.clone(), asked: shown(&info.subject.to_string()) });
    }
    if !info.raw.ends_with(&[info.subject_pki.raw, &NO_ATTRIBUTES].concat()) {
        return Err(Denial::MoreThanAName { node: node.clone() });
    }
    let usages: BTreeSet<&str> = request.usages.iter().map(String::as_str).collect();
    if usages.iter().copied().filter(|usage| *usage != RSA_USAGE).ne(USAGES) {
        return Err(Denial::OtherUsages(shown(&request.usages.join(", "))));
    }
    Ok(())
}

/// The octets in a PEM block, if there is that one and nothing else at all: what another reader might see as another
/// block, or as a header, is none.
fn der_of(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let body = text.strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?;
    STANDARD.decode(body.replace('\n', "")).ok()
}

/// The ways to write the subject of a node's certificate: its organisation, its name, and nothing else.
fn subjects(node: &NodeName) -> [Vec<u8>; 2] {
    let name = format!("system:node:{node}");
    TEXTS.map(|text| {
        let word = |kind: &[u8], value: &str| {
            let value = element(text, value.as_bytes());
            element(SET, &element(SEQUENCE, &[kind, &value].concat()))
        };
        element(SEQUENCE, &[word(&ORGANISATION, "system:nodes"), word(&COMMON_NAME, &name)].concat())
    })
}

/// An element of less than 128 octets, as all of a subject are: a node's name has at most 63.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = u8::try_from(contents.len()).expect("a node's name is short");
    [&[tag, len], contents].concat()
}

/// What a stranger wrote, fit for a log.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

// === impl Request ===

impl<'a> Request<'a> {
    /// The identifier of the machine's token that the request was made with.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn token_id(&self) -> Result<&'a str, Ignored> {
        let id = self.username.strip_prefix(TOKEN_USER).ok_or(Ignored::OtherUser)?;
        if id.is_empty() || !id.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit()) {
            return Err(Ignored::OtherUser);
        }
        self.groups.iter().any(|group| group == GROUP).then_some(id).ok_or(Ignored::OtherToken)
    }
}

// === impl Denial ===

impl Denial {
    /// The denial in one word, for the request's condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoGrant(NoGrant::Gone) => "TokenGone",
            Self::NoGrant(NoGrant::Unbound) => "TokenUnbound",
            Self::Expired { .. } => "TokenExpired",
            Self::OtherSigner(_) => "OtherSigner",
            Self::Malformed => "Malformed",
            Self::OtherName { .. } => "OtherName",
            Self::MoreThanAName { .. } => "MoreThanAName",
            Self::OtherUsages(_) => "OtherUsages",
        }
    }
}

#[cfg(test)]
mod tests;
