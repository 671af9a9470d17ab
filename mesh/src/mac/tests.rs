use super::*;
use proptest::prelude::*;

const MAC: Mac = Mac([0x02, 0x00, 0x5e, 0x10, 0x00, 0x01]);

#[test]
fn reads_what_it_writes_and_what_others_write() {
    assert_eq!(MAC.to_string(), "02:00:5e:10:00:01");
    for text in ["02:00:5e:10:00:01", "02-00-5E-10-00-01", "02:00:5E:10:00:01"] {
        assert_eq!(text.parse(), Ok(MAC), "{text}");
    }
}

#[test]
fn refuses_what_is_no_address_and_names_it() {
    let texts = [
        "",
        ":",
        "02:00:5e:10:00",
        "02:00:5e:10:00:01:",
        "02:00:5e:10:00:01:02",
        "2:0:5e:10:0:1",
        "+2:00:5e:10:00:01",
        "0g:00:5e:10:00:01",
        "02005e100001",
        " 02:00:5e:10:00:01",
        "é2:00:5e:10:00:01",
    ];
    for text in texts {
        let error = text.parse::<Mac>().unwrap_err();
        assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
    }
}

#[test]
fn knows_stations() {
    assert!(MAC.is_unicast());
    assert!(!Mac([0; 6]).is_unicast());
    assert!(!Mac([0xff; 6]).is_unicast());
    assert!(!Mac([0x33, 0x33, 0, 0, 0, 1]).is_unicast());
}

#[test]
fn makes_the_link_local_address_of_rfc_4291() {
    // [RFC 4291 appendix A]: 34-56-78-9A-BC-DE becomes 36-56-78-FF-FE-9A-BC-DE.
    let mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
    assert_eq!(mac.link_local(), "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap());
    assert_eq!(Mac::from_eui64("fe80::11".parse().unwrap()), None);
}

#[test]
fn is_a_string_in_json_and_a_bad_one_is_refused() {
    assert_eq!(serde_json::to_string(&MAC).unwrap(), "\"02:00:5e:10:00:01\"");
    assert!(serde_json::from_str::<Mac>("\"02:00:5e\"").is_err());
    assert!(serde_json::from_str::<Mac>("[2,0,94,16,0,1]").is_err());
}

proptest! {
    #[test]
    fn round_trips(octets: [u8; 6]) {
        let mac = Mac(octets);
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        prop_assert_eq!(Mac::from_eui64(mac.link_local()), Some(mac));
        prop_assert_eq!(mac.to_u48().to_be_bytes()[2..].to_vec(), octets.to_vec());
        let json = serde_json::to_string(&mac).unwrap();
        prop_assert_eq!(serde_json::from_str::<Mac>(&json).unwrap(), mac);
    }

    #[test]
    fn parsing_never_panics(text: String) {
        let _ = text.parse::<Mac>();
    }
}
