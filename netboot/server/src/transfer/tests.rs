use super::*;

fn request(options: &str) -> Request {
    let bytes = format!("\0\u{1}node.efi\0octet\0{options}");
    let Opening::Serve(request) = tftp::open(bytes.as_bytes()) else { panic!("{options:?}") };
    request
}

#[test]
fn a_request_that_comes_again_is_the_same_transfer_until_the_client_is_heard() {
    let unanswered = Unanswered::default();
    let peer = |port| SocketAddrV6::new("fe80::9".parse().unwrap(), port, 0, 3);
    let first = Slot::take(&unanswered, peer(2000), &request(""));
    assert!(first.is_some());
    assert!(Slot::take(&unanswered, peer(2000), &request("")).is_none(), "the same again");
    let others = [
        Slot::take(&unanswered, peer(2001), &request("")),
        Slot::take(&unanswered, peer(2000), &request("tsize\x000\0")),
    ];
    assert!(others.iter().all(Option::is_some), "another client, another request");
    drop(first);
    assert!(Slot::take(&unanswered, peer(2000), &request("")).is_some(), "the client began anew");
}
