use super::*;

fn near() -> Ipv6Addr {
    "2001:db8::11".parse().unwrap()
}

fn catalogue() -> Catalogue {
    Catalogue {
        x64: Some(FileName::try_from("node.efi".to_owned()).unwrap()),
        arm64: None,
        ..Catalogue::default()
    }
}

fn class(data: &[u8]) -> VendorClass {
    VendorClass { enterprise: 343, data: vec![data.to_vec()] }
}

fn decide_for(architectures: &[u16], vendor: Option<&[u8]>, user: Option<&[u8]>) -> Decision {
    decide_from(&catalogue(), architectures, vendor, user)
}

fn decide_from(
    catalogue: &Catalogue,
    architectures: &[u16],
    vendor: Option<&[u8]>,
    user: Option<&[u8]>,
) -> Decision {
    let vendor: Vec<VendorClass> = vendor.map(class).into_iter().collect();
    let user: Vec<Vec<u8>> = user.map(<[u8]>::to_vec).into_iter().collect();
    let asker = Asker { asked: true, architectures, vendor_classes: &vendor, user_classes: &user };
    decide(&asker, near(), catalogue)
}

#[test]
fn each_kind_of_client_gets_its_url() {
    let tftp = "tftp://[2001:db8::11]/node.efi";
    let http = "http://[2001:db8::11]/boot/node.efi";
    let pxe: Option<&[u8]> = Some(b"PXEClient:Arch:00007:UNDI:003000");
    let http_boot: Option<&[u8]> = Some(b"HTTPClient:Arch:00016:UNDI:003000");
    let offer =
        |url: &str, number, echo, sign| Decision::Offer(Offer { url: url.to_owned(), number, echo, sign });
    assert_eq!(decide_for(&[7], pxe, None), offer(tftp, 7, None, Sign::PxeClient));
    assert_eq!(decide_for(&[9], pxe, None), offer(tftp, 9, None, Sign::PxeClient));
    assert_eq!(decide_for(&[16], http_boot, None), offer(http, 16, Some(343), Sign::HttpClient));
    assert_eq!(decide_for(&[7], pxe, Some(b"iPXE")), offer(http, 7, None, Sign::Ipxe));
    assert_eq!(decide_for(&[7], None, None), offer(tftp, 7, None, Sign::Number(Firmware::Pxe)));
    assert_eq!(decide_for(&[16], None, None), offer(http, 16, None, Sign::Number(Firmware::Http)));
    assert_eq!(decide_for(&[6, 11, 7], pxe, None), offer(tftp, 7, None, Sign::PxeClient));
    // A class says more than the number.
    assert_eq!(decide_for(&[16], pxe, None), offer(tftp, 16, None, Sign::PxeClient));
}

#[test]
fn firmware_that_is_to_boot_by_https_is_told_nothing_else() {
    let url = |http_boot, number: u16, vendor: Option<&[u8]>, user: Option<&[u8]>| {
        let catalogue = Catalogue { http_boot, ..catalogue() };
        match decide_from(&catalogue, &[number], vendor, user) {
            Decision::Offer(offer) => Ok(offer.url),
            Decision::Refuse(refusal) => Err(refusal),
            Decision::NotAsked => unreachable!("it asked"),
        }
    };
    let http_boot: Option<&[u8]> = Some(b"HTTPClient:Arch:00016:UNDI:003000");
    let https = "https://[2001:db8::11]/boot/node.efi";
    assert_eq!(url(HttpBoot::Secure, 16, http_boot, None).as_deref(), Ok(https));
    assert_eq!(url(HttpBoot::Secure, 16, None, None).as_deref(), Ok(https));
    assert_eq!(url(HttpBoot::Uncertified, 16, http_boot, None), Err(BootRefusal::NoCertificate));
    for otherwise in [HttpBoot::Secure, HttpBoot::Uncertified] {
        let http = "http://[2001:db8::11]/boot/node.efi";
        assert_eq!(url(otherwise, 7, Some(b"PXEClient"), Some(b"iPXE")).as_deref(), Ok(http));
        let tftp = "tftp://[2001:db8::11]/node.efi";
        assert_eq!(url(otherwise, 7, Some(b"PXEClient"), None).as_deref(), Ok(tftp));
    }
}

#[test]
fn a_refusal_names_the_number() {
    assert_eq!(decide_for(&[], None, None), Decision::Refuse(BootRefusal::NoArchitecture));
    assert_eq!(decide_for(&[6], None, None), Decision::Refuse(BootRefusal::UnknownArchitecture(6)));
    for number in [11, 19] {
        let refusal = BootRefusal::NoFile { arch: Arch::Arm64, number };
        assert_eq!(decide_for(&[number], None, None), Decision::Refuse(refusal));
    }
    let silent = Asker { asked: false, architectures: &[7], vendor_classes: &[], user_classes: &[] };
    assert_eq!(decide(&silent, near(), &catalogue()), Decision::NotAsked);
}

#[test]
fn file_names_are_safe_in_a_url() {
    for bad in ["", ".efi", "../x", "a/b", "a b", "a%20", "a\0", "ä"] {
        assert!(FileName::try_from(bad.to_owned()).is_err(), "{bad:?}");
    }
}
