use super::*;

#[test]
fn a_token_is_read_and_written() {
    let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
    assert_eq!((token.id(), token.expose_secret()), ("abcdef", "0123456789abcdef"));
    assert_eq!(token.expose(), "abcdef.0123456789abcdef");
}

#[test]
fn what_is_no_token_is_refused_and_not_repeated() {
    for text in [
        "",
        ".",
        "abcdef",
        "abcde.0123456789abcdef",
        "abcdef.0123456789abcde",
        "ABCDEF.0123456789abcdef",
        "abcdef.0123456789abcdef.",
        "abcdéf.0123456789abcde",
    ] {
        let error = text.parse::<BootstrapToken>().unwrap_err().to_string();
        assert!(text.len() < 2 || !error.contains(text), "{error}");
    }
}

#[test]
fn random_numbers_make_tokens() {
    for (id, secret) in [(0, 0), (u64::MAX, u128::MAX), (12_345_678_901, 1 << 100)] {
        let token = BootstrapToken::from_random(id, secret);
        assert_eq!(token.expose().parse(), Ok(token));
    }
    assert_ne!(BootstrapToken::from_random(1, 1), BootstrapToken::from_random(1, 2));
}

#[test]
fn debug_shows_nothing() {
    let token = BootstrapToken::from_random(1, 1);
    assert_eq!(format!("{token:?}"), "***");
}
