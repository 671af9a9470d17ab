//! Credentials of registries, in the file that docker, podman and skopeo keep them in.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use images::upstream::Credentials;
use serde::Deserialize;

/// What `docker login` calls docker.io.
const DOCKER_IO: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "docker.io"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
}

/// Reads a file as `~/.docker/config.json`: each registry's user and password. `none` has none.
pub(super) fn read(path: &str) -> Result<BTreeMap<String, Credentials>, String> {
    if path == "none" {
        return Ok(BTreeMap::new());
    }
    let text = std::fs::read(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    parse(&text).map_err(|problem| format!("`{path}`: {problem}"))
}

fn parse(text: &[u8]) -> Result<BTreeMap<String, Credentials>, String> {
    // What is wrong is told by line and column: the text itself may be a password.
    let file: File = serde_json::from_slice(text).map_err(|error| {
        format!(
            "it is no file as `docker login` writes it (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let mut all = BTreeMap::new();
    for (place, Auth { auth }) in file.auths {
        let registry = registry(&place);
        let helper = file.cred_helpers.get(&place).or(file.creds_store.as_ref());
        let Some(auth) = auth.filter(|auth| !auth.is_empty()) else {
            return Err(match helper {
                Some(helper) => format!(
                    "the credentials of {registry} are kept by docker-credential-{helper}, which a seed has not got; \
                     give a file that holds them (`skopeo login --authfile FILE {registry}`)"
                ),
                None => format!("there are no credentials of {registry} in it"),
            });
        };
        let decoded = BASE64_STANDARD.decode(auth).ok().and_then(|octets| String::from_utf8(octets).ok());
        let pair = decoded.as_ref().and_then(|text| text.split_once(':'));
        let (user, password) =
            pair.ok_or_else(|| format!("the credentials of {registry} are not `user:password` in base64"))?;
        let credentials = Credentials { user: user.to_owned(), password: password.to_owned() };
        all.insert(registry, credentials);
    }
    Ok(all)
}

/// `https://index.docker.io/v1/` is docker.io.
fn registry(place: &str) -> String {
    let host = place.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    if DOCKER_IO.contains(&host) { "docker.io".to_owned() } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_login_writes_is_read() {
        let text = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpzZTpjcmV0"},
                        "registry.example:5000": {"auth": "YTpi"}}, "HttpHeaders": {}}"#;
        let all = parse(text).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["docker.io", "registry.example:5000"]);
        let docker = &all["docker.io"];
        assert_eq!((docker.user.as_str(), docker.password.as_str()), ("user", "se:cret"));
        assert!(!format!("{all:?}").contains("cret"));
    }

    #[test]
    fn what_it_does_not_hold_is_said() {
        for (text, problem) in [
            (r#"{"auths": {"ghcr.io": {}}, "credsStore": "pass"}"#, "kept by docker-credential-pass"),
            (r#"{"auths": {"ghcr.io": {}}}"#, "no credentials of ghcr.io"),
            (r#"{"auths": {"ghcr.io": {"auth": "%%"}}}"#, "not `user:password`"),
            ("user:secret", "line 1, column 1"),
        ] {
            let said = parse(text.as_bytes()).unwrap_err();
            assert!(said.contains(problem) && !said.contains("secret"), "{said}");
        }
    }
}
