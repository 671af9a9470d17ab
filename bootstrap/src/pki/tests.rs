use std::collections::BTreeMap;

use x509_parser::pem::parse_x509_pem;

use super::*;

#[test]
fn the_files_are_those_that_kubeadm_looks_for_and_keys_are_private() {
    let pki = Pki::generate(SystemTime::now(), false).unwrap();
    let modes: BTreeMap<String, u32> = pki.files().into_iter().map(|file| (file.path, file.mode)).collect();
    let names: Vec<&str> = modes.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "ca.crt",
            "ca.key",
            "etcd/ca.crt",
            "etcd/ca.key",
            "front-proxy-ca.crt",
            "front-proxy-ca.key",
            "sa.key",
            "sa.pub"
        ]
    );
    assert!(modes.iter().all(|(name, mode)| (*mode == PRIVATE) == name.ends_with(".key")));
    assert_eq!(pki.boot_key_file(), None);
}

#[test]
fn firmwares_authority_is_there_if_it_is_wanted() {
    let pki = Pki::generate(SystemTime::now(), true).unwrap();
    let key = pki.boot_key_file().unwrap();
    let name = key.strip_prefix(FOLDER).unwrap().to_str().unwrap();
    assert_eq!(pki.files().iter().find(|file| file.path == name).unwrap().mode, PRIVATE);
    let authority = pki.boot.as_ref().unwrap();
    let (_, pem) = parse_x509_pem(authority.certificate_pem.as_bytes()).unwrap();
    assert_eq!(pem.contents, authority.certificate_der);
    assert!(!format!("{pki:?}").contains("PRIVATE"));
}

#[test]
fn an_authority_is_one_for_ten_years_and_since_yesterday() {
    let now = SystemTime::now();
    let pki = Pki::generate(now, false).unwrap();
    let (_, pem) = parse_x509_pem(pki.kubernetes.certificate_pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert!(certificate.is_ca());
    assert_eq!(certificate.subject().to_string(), "CN=kubernetes");
    let seconds = i64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    assert!(certificate.validity().not_before.timestamp() <= seconds - 23 * 3600);
    assert!(certificate.validity().not_after.timestamp() > seconds + 9 * 365 * 24 * 3600);
    assert_eq!(hex::encode(Sha256::digest(certificate.public_key().raw)), pki.kubernetes.spki_sha256);
}

#[test]
fn the_operator_is_signed_by_kubernetes_authority() {
    let pki = Pki::generate(SystemTime::now(), false).unwrap();
    let (_, authority) = parse_x509_pem(pki.kubernetes.certificate_pem.as_bytes()).unwrap();
    let (_, admin) = parse_x509_pem(pki.admin.certificate_pem.as_bytes()).unwrap();
    let (authority, admin) = (authority.parse_x509().unwrap(), admin.parse_x509().unwrap());
    assert_eq!(admin.issuer(), authority.subject());
    assert!(admin.subject().to_string().contains("O=system:masters"));
    assert!(!admin.is_ca());
}

#[test]
fn no_secret_is_shown() {
    let pki = Pki::generate(SystemTime::now(), false).unwrap();
    let config = pki.kubeconfig("https://[fd65::1]:6443").unwrap();
    assert!(!format!("{pki:?} {config:?} {:?}", pki.files()).contains("PRIVATE"));
    let parsed: serde_json::Value = serde_json::from_str(config.expose()).unwrap();
    assert_eq!(parsed["clusters"][0]["cluster"]["server"], "https://[fd65::1]:6443");
}
