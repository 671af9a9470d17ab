use std::io::Write as _;

use axum::http::{HeaderValue, StatusCode};
use tokio::net::TcpListener;

use super::*;

/// What a client gets of an answer, and what became of sending it.
async fn sent(response: Response, head_only: bool) -> (String, io::Result<()>) {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let (mut client, (mut server, _)) = (client.unwrap(), accepted.unwrap());
    let mut got = Vec::new();
    let send = async move { send(&mut server, response, head_only, true).await };
    let (result, read) = tokio::join!(send, client.read_to_end(&mut got));
    read.unwrap();
    (String::from_utf8(got).unwrap(), result)
}

fn coming(pieces: Vec<io::Result<&'static str>>, len: Option<u64>) -> Response {
    let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
    response.headers_mut().extend(len.map(|len| (header::CONTENT_LENGTH, HeaderValue::from(len))));
    response
}

#[tokio::test]
async fn what_nobody_knows_the_length_of_goes_in_chunks_and_has_an_end() {
    let (got, result) = sent(coming(vec![Ok("abc"), Ok(""), Ok("de")], None), false).await;
    result.unwrap();
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nTransfer-Encoding: chunked"),
        "{head}"
    );
    assert_eq!(body, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    let (got, _) = sent(coming(vec![Ok("abcde")], Some(5)), false).await;
    assert!(got.contains("\r\nContent-Length: 5\r\n") && got.ends_with("\r\n\r\nabcde"), "{got}");
}

#[tokio::test]
async fn what_breaks_off_is_not_taken_for_the_whole() {
    let broken = || Err(io::ErrorKind::ConnectionReset.into());
    let (got, result) = sent(coming(vec![Ok("abc"), broken()], None), false).await;
    assert!(result.is_err() && got.ends_with("\r\n\r\n3\r\nabc\r\n"), "{got}");
    let large = Some(SMALL + 1);
    assert!(sent(coming(vec![Ok("abc"), broken()], large), false).await.1.is_err());
    let short = sent(coming(vec![Ok("abc")], large), false).await.1.unwrap_err();
    assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    assert!(sent(coming(vec![Ok("abc")], Some(2)), false).await.1.is_err());
}

#[tokio::test]
async fn a_head_tells_the_length_if_somebody_knows_it() {
    let (got, result) = sent(Response::new(Body::from("abc")), true).await;
    assert!(
        result.is_ok() && got.contains("\r\nContent-Length: 3\r\n") && got.ends_with("\r\n\r\n"),
        "{got}"
    );
    let (got, _) = sent(Response::new(Body::empty()), true).await;
    assert!(!got.contains("Content-Length"), "{got}");
    let mut gone = Response::new(Body::empty());
    *gone.status_mut() = StatusCode::NOT_FOUND;
    let (got, _) = sent(gone, false).await;
    assert!(
        got.starts_with("HTTP/1.1 404 Not Found\r\n") && got.contains("\r\nContent-Length: 0\r\n"),
        "{got}"
    );
}

#[tokio::test]
async fn a_part_of_a_file_is_all_that_goes_out() {
    let mut file = tempfile::tempfile().unwrap();
    let text: String = ('a'..='z').cycle().take(100_000).collect();
    file.write_all(text.as_bytes()).unwrap();
    let file = Arc::new(file);
    for (from, to) in [(0, 100_000), (3, 7), (5, 5), (1000, 90_001)] {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
        response.extensions_mut().insert(FilePart { file: Arc::clone(&file), from, to });
        let (got, result) = sent(response, false).await;
        result.unwrap();
        let part = &text[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
        assert_eq!(got.split_once("\r\n\r\n").unwrap().1, part, "{from} to {to}");
        let body = FilePart { file: Arc::clone(&file), from, to }.into_body();
        assert_eq!(to_bytes(body, usize::MAX).await.unwrap(), part, "{from} to {to}");
    }
}
