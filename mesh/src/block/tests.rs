use super::*;
use proptest::prelude::*;

fn block(text: &str) -> Block {
    Block::new(text.parse().unwrap()).unwrap()
}

fn port(number: u8) -> PortIndex {
    number.try_into().unwrap()
}

#[test]
fn parts_are_where_the_table_says() {
    let block = block("2001:db8::5e10:200/119");
    assert_eq!(block.vip(), "2001:db8::5e10:200".parse::<Ipv6Addr>().unwrap());
    assert_eq!(block.pods(), "2001:db8::5e10:300/120".parse().unwrap());
    for (number, prefix) in [(0, "210"), (1, "214"), (3, "21c"), (4, "220"), (59, "2fc")] {
        let link = block.link(port(number));
        assert_eq!(link.to_string(), format!("2001:db8::5e10:{prefix}/126"));
        assert_eq!(link.near().to_bits(), link.net().network().to_bits() + 1);
        assert_eq!(link.far().to_bits(), link.net().network().to_bits() + 2);
    }
}

#[test]
fn port_numbers_end_at_59() {
    assert_eq!(PortIndex::all().count(), 60);
    assert_eq!(PortIndex::all().last().map(PortIndex::get), Some(59));
    assert_eq!(PortIndex::try_from(60), Err(PortIndexError(60)));
    assert_eq!(PortIndexError(60).to_string(), "port 60 has no link in a block: ports are numbered 0 to 59");
    assert!(serde_json::from_str::<PortIndex>("59").is_ok());
    assert!(serde_json::from_str::<PortIndex>("60").is_err());
    assert!(serde_json::from_str::<PortIndex>("256").is_err());
}

#[test]
fn a_prefix_of_another_shape_is_no_block_and_no_link() {
    for text in ["2001:db8::/118", "2001:db8::/120", "2001:db8::1/119", "2001:db8::100/119"] {
        assert_eq!(Block::new(text.parse().unwrap()), None, "{text}");
        assert!(serde_json::from_value::<Block>(text.into()).is_err(), "{text}");
    }
    for text in ["2001:db8::/125", "2001:db8::/127", "2001:db8::1/126", "2001:db8::2/126"] {
        assert_eq!(LinkPrefix::new(text.parse().unwrap()), None, "{text}");
        let error = serde_json::from_value::<LinkPrefix>(text.into()).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

proptest! {
    #[test]
    fn links_and_pods_are_disjoint_and_inside(bits: u128) {
        let net = Ipv6Net::new(Ipv6Addr::from_bits(bits), BLOCK_PREFIX_LEN).unwrap().trunc();
        let block = Block::new(net).unwrap();
        let mut parts: Vec<Ipv6Net> = PortIndex::all().map(|port| block.link(port).net()).collect();
        parts.push(block.pods());
        parts.push(Ipv6Net::new(block.vip(), 128).unwrap());
        for (at, part) in parts.iter().enumerate() {
            prop_assert_eq!(part.trunc(), *part);
            prop_assert!(net.contains(part));
            for other in &parts[..at] {
                prop_assert!(!part.contains(other) && !other.contains(part), "{} {}", part, other);
            }
        }
    }

    #[test]
    fn round_trips_in_json(bits: u128, number in 0..MAX_PORTS) {
        let net = Ipv6Net::new(Ipv6Addr::from_bits(bits), BLOCK_PREFIX_LEN).unwrap().trunc();
        let block = Block::new(net).unwrap();
        let json = serde_json::to_value(block).unwrap();
        prop_assert_eq!(&json, &serde_json::Value::from(block.to_string()));
        prop_assert_eq!(serde_json::from_value::<Block>(json).unwrap(), block);
        let link = block.link(port(number));
        let json = serde_json::to_value(link).unwrap();
        prop_assert_eq!(serde_json::from_value::<LinkPrefix>(json).unwrap(), link);
    }
}
