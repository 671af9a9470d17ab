//! HTTP to the outside world: with the proxies of the environment and the certificates of the system.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The same of a node of the mesh, which is near.
const NEIGHBOUR_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a node of the mesh may be silent, while it waits itself.
const NEIGHBOUR_TIMEOUT: Duration = Duration::from_secs(300);
/// After how long, how often and how many times it is asked whether it lives.
const LIFE_SIGNS: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(2), 3);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of further certificate authorities cannot be read.
    #[error("reading the certificate authorities in {}", path.display())]
    ReadAuthorities {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It holds none.
    #[error("there is no PEM certificate in {}", .0.display())]
    NoAuthorities(PathBuf),
    /// It holds something else.
    #[error("the certificate authorities in {}", path.display())]
    Authorities {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: reqwest::Error,
    },
    /// There is no such proxy.
    #[error("`{proxy}` is no proxy")]
    Proxy {
        /// What was given.
        proxy: String,
        /// What is wrong with it.
        #[source]
        source: reqwest::Error,
    },
    /// TLS or the resolver cannot be set up.
    #[error("setting up HTTP")]
    Build(#[source] reqwest::Error),
}

/// How servers outside are reached.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// The proxy, `http://HOST:PORT`; none for what the environment says.
    pub proxy: Option<String>,
    /// Who is reached without it: names, domains, addresses and networks, as in `NO_PROXY`.
    pub no_proxy: Vec<String>,
    /// Certificate authorities besides the system's, in PEM.
    pub authorities: Option<String>,
}

/// A client that goes this way.
///
/// # Errors
///
/// [`ClientError`].
pub fn client_by(route: &Route) -> Result<reqwest::Client, ClientError> {
    let mut builder = builder();
    if let Some(proxy) = &route.proxy {
        let around = reqwest::NoProxy::from_string(&route.no_proxy.join(","));
        let wrong = |source| ClientError::Proxy { proxy: proxy.clone(), source };
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(wrong)?.no_proxy(around));
    }
    if let Some(pem) = &route.authorities {
        builder = trusting(builder, pem.as_bytes(), Path::new("the settings"))?;
    }
    builder.build().map_err(ClientError::Build)
}

/// A client that heeds `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, and trusts the system's certificate authorities and those in
/// `authorities`.
///
/// # Errors
///
/// [`ClientError`].
pub fn client(authorities: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    let mut builder = builder();
    if let Some(path) = authorities {
        let pem = fs::read(path)
            .map_err(|source| ClientError::ReadAuthorities { path: path.to_owned(), source })?;
        builder = trusting(builder, &pem, path)?;
    }
    builder.build().map_err(ClientError::Build)
}

/// A client that speaks with other nodes of the mesh: by no proxy, and with patience, for who answers may have to wait
/// itself. One whose plug was pulled says nothing at all, and is asked for a sign of life.
///
/// # Errors
///
/// [`ClientError`].
pub fn client_to_neighbours() -> Result<reqwest::Client, ClientError> {
    let builder =
        builder().no_proxy().connect_timeout(NEIGHBOUR_CONNECT_TIMEOUT).read_timeout(NEIGHBOUR_TIMEOUT);
    let (after, every, times) = LIFE_SIGNS;
    let builder = builder.tcp_keepalive(after).tcp_keepalive_interval(every).tcp_keepalive_retries(times);
    builder.build().map_err(ClientError::Build)
}

/// A client that speaks with one server of the mesh: by no proxy, as with [neighbours](client_to_neighbours), and it trusts
/// nobody but who is vouched for in `authority`, in PEM.
///
/// # Errors
///
/// [`ClientError`].
pub fn client_to_mesh(authority: &str) -> Result<reqwest::Client, ClientError> {
    let bad = |source| ClientError::Authorities { path: "the mesh's own".into(), source };
    let certificates = reqwest::Certificate::from_pem_bundle(authority.as_bytes()).map_err(bad)?;
    let builder =
        builder().no_proxy().connect_timeout(NEIGHBOUR_CONNECT_TIMEOUT).read_timeout(NEIGHBOUR_TIMEOUT);
    builder.tls_certs_only(certificates).build().map_err(ClientError::Build)
}

/// Where a part begins, and how long the whole is if the server knows `[RFC 9110 § 14.4]`.
#[must_use]
pub fn content_range(response: &reqwest::Response) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get(reqwest::header::CONTENT_RANGE)?.to_str().ok()?;
    let (part, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = part.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

fn builder() -> reqwest::ClientBuilder {
    // aws-lc-rs is the tree's only provider; whoever was first has installed the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("meshboot/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
}

fn trusting(
    builder: reqwest::ClientBuilder,
    pem: &[u8],
    path: &Path,
) -> Result<reqwest::ClientBuilder, ClientError> {
    let bad = |source| ClientError::Authorities { path: path.to_owned(), source };
    let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(bad)?;
    if certificates.is_empty() {
        return Err(ClientError::NoAuthorities(path.to_owned()));
    }
    Ok(builder.tls_certs_merge(certificates))
}
