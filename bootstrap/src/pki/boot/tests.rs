use mesh::{AddressPlan, BlockNumber};
use x509_parser::prelude::X509Certificate;

use super::*;

fn block(number: u64) -> Block {
    AddressPlan::default().block(BlockNumber(number)).unwrap()
}

fn read<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
    look(&pem.parse_x509().unwrap())
}

#[test]
fn a_server_is_certified_for_its_own_links_whatever_it_asks_for() {
    let (now, authority, signer) = signer();
    let node = node();
    // It asks to be another, to sign others, and to be a client.
    let key = key_pair(RsaKeySize::_2048).unwrap();
    let mut greedy = parameters("seed", now, LIFE);
    greedy.subject_alt_names = vec![SanType::IpAddress(IpAddr::V6(block(0).link(port(0)).near()))];
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let request = greedy.serialize_request(&key).unwrap().pem().unwrap();
    let pem = signer.sign(&request, &node, block(4), now).unwrap();
    read(&pem, |certificate| {
        assert_eq!(certificate.subject().to_string(), "CN=node4");
        assert_eq!(certificate.issuer().to_string(), "CN=meshboot boot authority");
        assert!(!certificate.is_ca());
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth);
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        let own = block(4).link(port(1)).near().octets();
        assert!(names.contains(&GeneralName::IPAddress(&own)));
        let other = block(0).link(port(0)).near().octets();
        assert!(!names.contains(&GeneralName::IPAddress(&other)));
        assert_eq!(names.len(), PortIndex::all().count());
        assert_eq!(certificate.validity().not_before.to_datetime().year(), SINCE);
    });
    read(&authority.certificate_pem, |authority| {
        assert!(authority.is_ca());
        read(&pem, |certificate| certificate.verify_signature(Some(authority.public_key())).unwrap());
    });
}

#[test]
fn a_certificate_is_renewed_in_time_and_if_it_is_for_another_block() {
    let (now, authority, signer) = signer();
    let node = node();
    let request = request(&node).unwrap();
    let pem = signer.sign(&request.request_pem, &node, block(4), now).unwrap();
    let ours = &authority.certificate_pem;
    let left = renewed_at(&pem, ours, block(4)).unwrap().duration_since(now).unwrap();
    let expected = LIFE - RENEWED_BEFORE;
    assert!(left <= expected && left > expected - Duration::from_secs(2), "{left:?}");
    assert_eq!(renewed_at(&pem, ours, block(5)), None);
    assert_eq!(renewed_at(&request.request_pem, ours, block(4)), None);
    assert_eq!(renewed_at("", ours, block(4)), None);
    let others = super::authority(now).unwrap().certificate_pem;
    assert_eq!(renewed_at(&pem, &others, block(4)), None);
}

#[test]
fn a_request_that_its_key_did_not_sign_is_refused() {
    let (now, _, signer) = signer();
    let node = node();
    let request = request(&node).unwrap().request_pem;
    let (_, mut pem) = parse_x509_pem(request.as_bytes()).unwrap();
    let last = pem.contents.last_mut().unwrap();
    *last ^= 1;
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(&pem.contents);
    let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    for bad in [forged.as_str(), "", "-----BEGIN CERTIFICATE REQUEST-----\n"] {
        let error = signer.sign(bad, &node, block(4), now).unwrap_err();
        assert!(matches!(error, SignError::Request(_)), "{error:?}");
    }
}

fn signer() -> (SystemTime, Authority, BootSigner) {
    let now = SystemTime::now();
    let authority = authority(now).unwrap();
    let signer = BootSigner::new(&authority).unwrap();
    (now, authority, signer)
}

fn node() -> NodeName {
    "node4".parse().unwrap()
}

fn port(number: u8) -> PortIndex {
    number.try_into().unwrap()
}
