use proptest::prelude::*;

use super::*;

#[test]
fn a_machines_words_are_read() {
    let query = "uuid=2f6ad4a5-0d5c-4a0e-9c7d-1b2c3d4e5f60&port=enp1s0,02:00:00:00:00:01&port=eth1%2C02-00-00-00-00-02&v=2";
    let question = parse(query).unwrap();
    assert_eq!(question.uuid.unwrap().to_string(), "2f6ad4a5-0d5c-4a0e-9c7d-1b2c3d4e5f60");
    let ports =
        [("enp1s0".to_owned(), Mac([2, 0, 0, 0, 0, 1])), ("eth1".to_owned(), Mac([2, 0, 0, 0, 0, 2]))];
    assert_eq!(question.ports, ports);
    assert_eq!(parse("image=0123456789abcdef").unwrap().image.as_deref(), Some("0123456789abcdef"));
    assert_eq!(parse("uuid=&image="), Ok(Question::default()));
    assert_eq!(parse(""), Ok(Question::default()));
}

#[test]
fn nonsense_is_refused() {
    assert_eq!(parse("uuid=x"), Err(QueryError::Uuid));
    for port in [
        "eth0",
        "eth0,x",
        ",02:00:00:00:00:01",
        "a/b,02:00:00:00:00:01",
        "0123456789abcdef,02:00:00:00:00:01",
    ] {
        assert_eq!(parse(&format!("port={port}")), Err(QueryError::Port), "{port}");
    }
    for image in ["../root", "a b", &"a".repeat(MAX_IMAGE + 1)] {
        assert_eq!(parse(&format!("image={image}")), Err(QueryError::Image), "{image}");
    }
    let many = vec!["port=a,02:00:00:00:00:01"; MAX_PORTS + 1].join("&");
    assert_eq!(parse(&many), Err(QueryError::Many));
}

proptest! {
    #[test]
    fn queries_never_panic(query in "\\PC*") {
        let _ = parse(&query);
    }
}
