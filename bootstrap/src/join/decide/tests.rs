use std::net::Ipv6Addr;

use mesh::{Mac, MachineId};
use proptest::prelude::*;
use proptest::sample::Index;
use rcgen::string::PrintableString;
use rcgen::{
    Attribute, CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, KeyUsagePurpose, SanType,
};

use super::*;

const NODE: &str = "system:node:node4";
const NOW: &str = "2026-01-02T03:04:05Z";

/// What a kubelet asks for, and as it does; each test changes what it is about.
#[derive(Clone)]
struct Asked {
    signer: &'static str,
    username: &'static str,
    groups: Vec<String>,
    usages: Vec<String>,
    pem: Vec<u8>,
}

impl Asked {
    fn new(params: &CertificateParams) -> Self {
        Self::with_pem(params.serialize_request(&key()).unwrap().pem().unwrap())
    }

    fn with_pem(pem: impl Into<Vec<u8>>) -> Self {
        Self {
            signer: SIGNER,
            username: "system:bootstrap:abc123",
            groups: words(&["system:bootstrappers", GROUP, "system:authenticated"]),
            usages: words(&["digital signature", "key encipherment", "client auth"]),
            pem: pem.into(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            signer: self.signer,
            username: self.username,
            groups: &self.groups,
            usages: &self.usages,
            pem: &self.pem,
        }
    }

    fn verdict(&self) -> Verdict {
        decide(&self.request(), Ok(&grant()), NOW.parse().unwrap())
    }

    fn denial(&self) -> Denial {
        let Verdict::Deny(denial) = self.verdict() else { panic!("{:?}", self.verdict()) };
        denial
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn grant() -> Grant {
    Grant {
        machine: MachineId::from_mac(Mac([2, 0, 0, 0, 0, 4])),
        node: "node4".parse().unwrap(),
        expires: "2026-01-02T03:10:00Z".parse().unwrap(),
        boot_before: None,
    }
}

fn approved() -> Verdict {
    Verdict::Approve(grant().node)
}

fn printable(text: &str) -> DnValue {
    DnValue::PrintableString(PrintableString::try_from(text).unwrap())
}

/// A request for these words of a subject, and nothing else.
fn subject(words: Vec<(DnType, DnValue)>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in words {
        params.distinguished_name.push(kind, value);
    }
    params
}

fn node(organisation: &str, name: &str) -> CertificateParams {
    subject(vec![(DnType::OrganizationName, printable(organisation)), (DnType::CommonName, printable(name))])
}

fn kubelets() -> CertificateParams {
    node("system:nodes", NODE)
}

#[test]
fn a_kubelet_gets_the_certificate_of_its_own_node() {
    let asked = Asked::new(&kubelets());
    assert_eq!(asked.verdict(), approved());
    // Asking again with another key, as after a kubelet's restart, is as good.
    assert_eq!(Asked::new(&kubelets()).verdict(), approved());
    // Kubelets of newer versions leave out what only RSA needs; the order means nothing.
    let usages = [
        &["client auth", "digital signature"][..],
        &["key encipherment", "client auth", "digital signature"],
    ];
    for usages in usages {
        assert_eq!(Asked { usages: words(usages), ..asked.clone() }.verdict(), approved());
    }
}

#[test]
fn the_subject_may_be_written_as_utf8() {
    let words = [(DnType::OrganizationName, "system:nodes"), (DnType::CommonName, NODE)];
    let words = words.map(|(kind, text)| (kind, DnValue::Utf8String(text.to_owned())));
    assert_eq!(Asked::new(&subject(words.into())).verdict(), approved());
}

#[test]
fn the_longest_name_fits() {
    let name = "n".repeat(63);
    let grant = Grant { node: name.parse().unwrap(), ..grant() };
    let asked = Asked::new(&node("system:nodes", &format!("system:node:{name}")));
    let verdict = decide(&asked.request(), Ok(&grant), NOW.parse().unwrap());
    assert_eq!(verdict, Verdict::Approve(grant.node));
}

/// Of kubelet 1.20.2, taken from the API server that it asked.
#[test]
fn what_a_real_kubelet_writes_is_read() {
    assert_eq!(Asked::with_pem(include_str!("kubelet.pem")).verdict(), approved());
}

#[test]
fn another_name_is_denied_and_said() {
    for name in ["system:node:node5", "system:node:node44", "system:node:node", "system:node:NODE4", "node4"]
    {
        let denial = Asked::new(&node("system:nodes", name)).denial();
        assert!(matches!(denial, Denial::OtherName { .. }), "{denial:?}");
        let said = denial.to_string();
        assert!(said.contains(&format!("CN={name}")) && said.contains("system:node:node4"), "{said}");
    }
}

#[test]
fn a_subject_that_is_not_exactly_a_nodes_is_denied() {
    let organisation = || (DnType::OrganizationName, printable("system:nodes"));
    let name = || (DnType::CommonName, printable(NODE));
    let unit = (DnType::OrganizationalUnitName, printable("system:masters"));
    let masters = (DnType::OrganizationName, printable("system:masters"));
    let ia5 = DnValue::Ia5String(NODE.try_into().unwrap());
    let subjects = [
        vec![],
        vec![name()],
        vec![organisation()],
        vec![name(), organisation()],
        vec![organisation(), name(), unit],
        vec![masters, name()],
        vec![organisation(), (DnType::CommonName, ia5)],
    ];
    for words in subjects {
        let denial = Asked::new(&subject(words)).denial();
        assert!(matches!(denial, Denial::OtherName { .. }), "{denial:?}");
    }
}

#[test]
fn more_than_a_name_is_denied() {
    let alternatives = [
        SanType::DnsName("node4".try_into().unwrap()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        SanType::URI("https://node4".try_into().unwrap()),
        SanType::Rfc822Name("root@node4".try_into().unwrap()),
    ];
    let with = |alternative: Option<SanType>, key_usages: &[KeyUsagePurpose]| {
        let mut params = kubelets();
        params.subject_alt_names.extend(alternative);
        params.key_usages.extend_from_slice(key_usages);
        params
    };
    let mut all: Vec<_> = alternatives.map(|alternative| with(Some(alternative), &[])).into();
    all.push(with(None, &[KeyUsagePurpose::KeyCertSign]));
    for params in all {
        assert_eq!(Asked::new(&params).denial(), Denial::MoreThanAName { node: grant().node });
    }
    // 1.2.3.4, of which nobody knows what it means; the value is a set of one NULL.
    let attribute = Attribute { oid: &[1, 2, 3, 4], values: vec![0x31, 2, 5, 0] };
    let request = kubelets().serialize_request_with_attributes(&key(), vec![attribute]).unwrap();
    let denial = Asked::with_pem(request.pem().unwrap()).denial();
    assert_eq!(denial, Denial::MoreThanAName { node: grant().node });
}

#[test]
fn other_usages_are_denied() {
    let all = ["client auth", "digital signature", "key encipherment"];
    let others: [&[&str]; 6] = [
        &[],
        &["client auth"],
        &["digital signature", "key encipherment"],
        &["client auth", "key encipherment"],
        &["client auth", "digital signature", "server auth"],
        &[all[0], all[1], all[2], "cert sign"],
    ];
    for usages in others {
        let asked = Asked { usages: words(usages), ..Asked::new(&kubelets()) };
        assert_eq!(asked.denial(), Denial::OtherUsages(usages.join(", ")));
    }
}

#[test]
fn another_signer_is_denied() {
    for signer in ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client", ""] {
        let asked = Asked { signer, ..Asked::new(&kubelets()) };
        assert_eq!(asked.denial(), Denial::OtherSigner(signer.to_owned()));
    }
}

#[test]
fn a_token_that_has_ended_or_is_gone_or_was_never_bound_gets_nothing() {
    let asked = Asked::new(&kubelets());
    let at = |now: &str| decide(&asked.request(), Ok(&grant()), now.parse().unwrap());
    assert_eq!(at("2026-01-02T03:09:59.999Z"), approved());
    for now in ["2026-01-02T03:10:00Z", "2027-01-01T00:00:00Z"] {
        let Verdict::Deny(Denial::Expired { node, expires }) = at(now) else { panic!("{:?}", at(now)) };
        assert_eq!((node, expires), (grant().node, grant().expires));
    }
    for none in [NoGrant::Gone, NoGrant::Unbound] {
        let verdict = decide(&asked.request(), Err(none), NOW.parse().unwrap());
        assert_eq!(verdict, Verdict::Deny(Denial::NoGrant(none)));
    }
}

#[test]
fn what_no_machines_token_asks_for_is_left_to_others() {
    let asked = Asked::new(&node("system:nodes", "system:node:any"));
    let users = [
        "system:node:node4",
        "admin",
        "system:serviceaccount:default:default",
        "system:bootstrap:",
        "system:bootstrap:../../x",
        "",
    ];
    for username in users {
        let asked = Asked { username, ..asked.clone() };
        assert_eq!(asked.verdict(), Verdict::Ignore(Ignored::OtherUser), "{username}");
    }
    // An operator's, by `kubeadm token create`: kube-controller-manager approves it.
    let operators = ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"];
    let theirs = Asked { groups: words(&operators), ..asked.clone() };
    assert_eq!(theirs.verdict(), Verdict::Ignore(Ignored::OtherToken));
    let verdict = decide(&theirs.request(), Err(NoGrant::Unbound), NOW.parse().unwrap());
    assert_eq!(verdict, Verdict::Ignore(Ignored::OtherToken));
    assert_eq!(Asked { groups: vec![], ..asked }.verdict(), Verdict::Ignore(Ignored::OtherToken));
}

#[test]
fn what_is_not_one_pem_block_is_denied() {
    let pem = String::from_utf8(Asked::new(&kubelets()).pem).unwrap();
    let other = String::from_utf8(Asked::new(&node("system:nodes", "system:node:node5")).pem).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let texts = [
        String::new(),
        format!("{pem}{other}"),
        format!("{other}{pem}"),
        format!("text\n{pem}"),
        format!("{pem}\n\n"),
        pem.replace("REQUEST-----\n", "REQUEST-----\nKey: value\n\n"),
        pem.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        pem.replace("-----BEGIN CERTIFICATE REQUEST-----\n", "-----BEGIN CERTIFICATE REQUEST-----\n\u{feff}"),
        body.clone(),
        pem.replacen(&body[..4], "!!!!", 1),
        pem.replacen(&body[..4], "", 1),
    ];
    for text in texts {
        assert_eq!(Asked::with_pem(text.clone()).denial(), Denial::Malformed, "{text}");
    }
    assert_eq!(Asked::with_pem(vec![0xff; 64]).denial(), Denial::Malformed);
    // One newline more or less at its end makes no other block of it.
    assert_eq!(Asked::with_pem(pem.trim_end()).verdict(), approved());
}

#[test]
fn octets_after_the_request_are_denied() {
    let mut der = kubelets().serialize_request(&key()).unwrap().der().to_vec();
    assert_eq!(Asked::with_pem(armour(&der)).verdict(), approved());
    der.push(0);
    assert_eq!(Asked::with_pem(armour(&der)).denial(), Denial::Malformed);
}

#[test]
fn what_a_stranger_writes_is_made_fit_for_a_log() {
    let name = DnValue::Utf8String(format!("evil\n\u{1b}[2J{}", "x".repeat(10_000)));
    let said = Asked::new(&subject(vec![(DnType::CommonName, name)])).denial().to_string();
    assert!(said.len() < 400 && said.contains("evil\\n") && !said.contains(['\n', '\u{1b}']), "{said}");
}

fn armour(der: &[u8]) -> String {
    format!("{PEM_BEGIN}{}{PEM_END}\n", STANDARD.encode(der))
}

proptest! {
    /// Whatever is changed in a good request's octets, it never becomes good for another, and never ends us.
    #[test]
    fn no_octets_panic_or_get_another_name(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8),
        cut in any::<Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut der = kubelets().serialize_request(&key()).unwrap().der().to_vec();
        for (at, octet) in &changes {
            let at = at.index(der.len());
            der[at] = *octet;
        }
        if is_cut {
            der.truncate(cut.index(der.len()));
        }
        let verdict = Asked::with_pem(armour(&der)).verdict();
        if verdict == approved() {
            let name = |text: &str| der.windows(text.len()).any(|window| window == text.as_bytes());
            prop_assert!(name(NODE) && name("system:nodes"));
        }
    }

    #[test]
    fn no_text_panics(pem in any::<Vec<u8>>(), der in any::<Vec<u8>>()) {
        prop_assert_eq!(Asked::with_pem(pem).denial(), Denial::Malformed);
        prop_assert_eq!(Asked::with_pem(armour(&der)).denial(), Denial::Malformed);
    }
}
