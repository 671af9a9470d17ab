//! What a network has of this computer's addresses, as libvirt tells it.

use ipnet::IpNet;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// The networks that this computer is on, or reaches, by a network of libvirt: those of its addresses and of its routes.
/// What cannot be read is passed over: libvirt has checked it.
#[must_use]
pub fn occupied(xml: &str) -> Vec<IpNet> {
    let mut reader = Reader::from_str(xml);
    let mut networks = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => {
                if matches!(element.local_name().into_inner(), "ip" | "route") {
                    networks.extend(network(&element));
                }
            }
            Ok(Event::Eof) | Err(_) => return networks,
            Ok(_) => {}
        }
    }
}

fn network(element: &BytesStart<'_>) -> Option<IpNet> {
    let attribute = |name: &str| {
        let found = element.try_get_attribute(name).ok().flatten()?;
        found.normalized_value(XmlVersion::Implicit1_0).map(String::from).ok()
    };
    let net = IpNet::new(attribute("address")?.parse().ok()?, attribute("prefix")?.parse().ok()?);
    net.ok().map(|net| net.trunc())
}
