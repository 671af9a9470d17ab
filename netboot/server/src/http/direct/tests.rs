use super::*;

#[test]
fn heads_say_how_long_the_answer_is_and_whether_the_connection_stays() {
    let text = |response: &Response<Body>, keep| String::from_utf8(head(response, keep).to_vec()).unwrap();
    let mut response = Response::new(Body::whole(Bytes::from_static(b"no\n")));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let said = text(&response, true);
    assert!(said.starts_with("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nDate: "), "{said}");
    assert!(said.ends_with(" GMT\r\n\r\n") && !said.contains("Connection"), "{said}");
    assert!(text(&response, false).contains("\r\nConnection: close\r\n"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    assert!(!text(&response, true).contains("Content-Length"));
}
