use proptest::prelude::*;

use super::*;

fn address() -> Ipv6Addr {
    "2001:db8::53".parse().unwrap()
}

#[test]
fn a_domain_name_is_labels_and_the_root() {
    let name: DomainName = "mesh.Example.".parse().unwrap();
    assert_eq!(name.as_wire(), b"\x04mesh\x07Example\0");
    assert_eq!(name.to_string(), "mesh.Example");
    let long = "a".repeat(64);
    let longer = vec!["a".repeat(63); 4].join(".");
    for bad in ["", ".", "a..b", "-a.b", "a-", "a b", "ä.example", "a_b", long.as_str(), longer.as_str()] {
        assert!(bad.parse::<DomainName>().is_err(), "{bad:?}");
    }
}

#[test]
fn services_that_do_not_fit_are_refused() {
    let name: DomainName = "example".parse().unwrap();
    assert!(Services::new(vec![address(); 4], vec![name.clone(); 4], vec![address(); 4]).is_ok());
    let many = Services::new(vec![address(); 5], vec![], vec![]).unwrap_err();
    assert_eq!(many.to_string(), "5 name servers, and there is room for 4");
    assert!(Services::new(vec![], vec![name; 5], vec![]).is_err());
    assert!(Services::new(vec![], vec![], vec![address(); 5]).is_err());
    let long: DomainName = vec!["a".repeat(60); 4].join(".").parse().unwrap();
    assert_eq!(Services::new(vec![], vec![long; 2], vec![]), Err(ServicesError::Long { given: 490 }));
}

proptest! {
    #[test]
    fn what_is_a_name_stays_it(text in "[a-zA-Z0-9.-]{0,80}") {
        if let Ok(name) = text.parse::<DomainName>() {
            prop_assert_eq!(name.to_string().parse::<DomainName>(), Ok(name.clone()));
            prop_assert!(name.as_wire().len() <= 255 && name.as_wire().last() == Some(&0));
        }
    }
}
