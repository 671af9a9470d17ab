//! One file, verified by the checksum beside it, resumed where it broke off.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt;
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, RANGE},
};
use tracing::{debug, info};

use crate::{
    client::{ClientError, content_range},
    kubernetes::version::{ParseVersionError, Version},
    store::{Digest, ParseDigestError},
};

/// The longest checksum or version file.
const MAX_SMALL: usize = 4096;
/// How often a transfer that gains nothing is tried again.
const ATTEMPTS: u32 = 5;
/// The wait after the first failure; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// How much of a wrong answer is shown.
const SHOWN: usize = 60;

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server has no such version.
    #[error("{base_url} has no Kubernetes {version} for amd64 ({url} is not there)")]
    UnknownVersion {
        /// Which.
        version: Version,
        /// Which server.
        base_url: String,
        /// What was asked for.
        url: String,
    },
    /// The server has no such file.
    #[error("{url} is not there")]
    NotFound {
        /// Which.
        url: String,
    },
    /// The server refused.
    #[error("{url} was refused: {status}")]
    Status {
        /// Which.
        url: String,
        /// How.
        status: StatusCode,
    },
    /// The server cannot be reached, or breaks off again and again.
    #[error("fetching {url} failed {attempts} times{}", got(*.done, *.total))]
    Transfer {
        /// Which.
        url: String,
        /// How often it was tried without a gain.
        attempts: u32,
        /// Bytes that came.
        done: u64,
        /// Bytes that there should be.
        total: Option<u64>,
        /// The last failure.
        #[source]
        source: reqwest::Error,
    },
    /// A web page came instead of a file.
    #[error(
        "{url} is answered with a web page: a captive portal or a proxy answers in the server's place; log in there, or set HTTPS_PROXY"
    )]
    Portal {
        /// Which.
        url: String,
    },
    /// What should be a checksum is none.
    #[error("{url} is no checksum: it begins with `{start}`")]
    NotAChecksum {
        /// Which.
        url: String,
        /// How it begins.
        start: String,
        /// What a checksum would be.
        #[source]
        source: ParseDigestError,
    },
    /// What should be a version is none.
    #[error("{url} does not name a version")]
    NotAVersion {
        /// Which.
        url: String,
        /// What it says.
        #[source]
        source: ParseVersionError,
    },
    /// The bytes are not those of the checksum.
    #[error("{url} has the wrong checksum: expected {expected}, got {actual} ({size} bytes)")]
    WrongChecksum {
        /// Which.
        url: String,
        /// What its checksum says.
        expected: Digest,
        /// What came.
        actual: Digest,
        /// How many bytes came.
        size: u64,
    },
    /// Another process is at it.
    #[error("another process is fetching {}", .0.display())]
    Busy(PathBuf),
    /// The cache cannot be written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
}

fn got(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!(" after {done} of {total} bytes"),
        None if done > 0 => format!(" after {done} bytes"),
        None => String::new(),
    }
}

/// A file to fetch.
pub(super) struct Download<'a, P> {
    pub(super) client: &'a Client,
    pub(super) url: String,
    pub(super) path: PathBuf,
    /// Told how many bytes are there, and how many there will be.
    pub(super) progress: P,
}

/// How one transfer ended.
enum Ended {
    /// All that the server would send is there.
    Whole,
    /// It makes sense to try again.
    Broken { source: reqwest::Error, total: Option<u64> },
}

// === impl Download ===

impl<P: Fn(u64, Option<u64>)> Download<'_, P> {
    /// Fetches the file, unless it is there and sound.
    pub(super) async fn run(&self) -> Result<(), FetchError> {
        if let Some(size) = self.cached().await? {
            (self.progress)(size, Some(size));
            return Ok(());
        }
        let dir = self.path.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(dir).map_err(|source| failed("making", dir, source))?;
        let expected = self.checksum().await?;
        let partial = self.beside("part");
        let mut file = lock(&partial)?;
        // Another process may have finished it just before the lock was free.
        if let Some(size) = self.cached().await? {
            (self.progress)(size, Some(size));
            return Ok(());
        }
        let mut anew = false;
        loop {
            let resumed = self.transfer(&mut file, &partial).await?;
            let (actual, size) = hash(&partial).await?;
            if actual == expected {
                break;
            }
            let empty = |file: &File| file.set_len(0).map_err(|source| failed("emptying", &partial, source));
            empty(&file)?;
            if !resumed || anew {
                return Err(FetchError::WrongChecksum { url: self.url.clone(), expected, actual, size });
            }
            anew = true;
            info!(url = self.url, "what was there before does not fit what came: fetching it anew");
        }
        self.keep(&file, &partial, &expected, dir).map_err(|source| failed("keeping", &self.path, source))
    }

    /// The file's size, if it is in the cache and sound.
    async fn cached(&self) -> Result<Option<u64>, FetchError> {
        let Ok(text) = fs::read_to_string(self.beside("sha256")) else { return Ok(None) };
        let Ok(expected) = Digest::from_hex(text.trim()) else { return Ok(None) };
        if !self.path.is_file() {
            return Ok(None);
        }
        let (actual, size) = hash(&self.path).await?;
        Ok((actual == expected).then_some(size))
    }

    async fn checksum(&self) -> Result<Digest, FetchError> {
        let url = format!("{}.sha256", self.url);
        let text = small_text(self.client, &url, ATTEMPTS).await?;
        let digits = text.split_whitespace().next().unwrap_or_default();
        Digest::from_hex(digits).map_err(|source| {
            let start = text.chars().take(SHOWN).collect();
            FetchError::NotAChecksum { url, start, source }
        })
    }

    /// Fetches what is missing of the partial file, and says whether it began with what was there before.
    async fn transfer(&self, file: &mut File, partial: &Path) -> Result<bool, FetchError> {
        let begin = length(file, partial)?;
        let mut failures = 0;
        loop {
            let before = length(file, partial)?;
            match self.attempt(file, partial, before).await? {
                Ended::Whole => return Ok(begin > 0 || failures > 0),
                Ended::Broken { source, total } => {
                    let done = length(file, partial)?;
                    failures = if done > before { 1 } else { failures + 1 };
                    if failures >= ATTEMPTS {
                        let url = self.url.clone();
                        return Err(FetchError::Transfer { url, attempts: failures, done, total, source });
                    }
                    let wait = FIRST_WAIT * 2_u32.pow(failures - 1);
                    info!(url = self.url, done, ?total, %source, ?wait, "a transfer broke off and will be resumed");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One request, from byte `start` on.
    async fn attempt(&self, file: &mut File, partial: &Path, start: u64) -> Result<Ended, FetchError> {
        let mut request = self.client.get(&self.url);
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(source) => return Ok(Ended::Broken { source, total: None }),
        };
        let write = |source| failed("writing", partial, source);
        let mut done = match response.status() {
            StatusCode::PARTIAL_CONTENT if content_range(&response).is_some_and(|(at, _)| at == start) => {
                start
            }
            StatusCode::OK => 0,
            // Longer than the file, or another part than was asked for: begin again.
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT if start > 0 => {
                file.set_len(0).map_err(write)?;
                return Box::pin(self.attempt(file, partial, 0)).await;
            }
            status => match response.error_for_status() {
                Err(source) if is_passing(status) => return Ok(Ended::Broken { source, total: None }),
                _ => return Err(refused(&self.url, status)),
            },
        };
        if is_page(&response) {
            return Err(FetchError::Portal { url: self.url.clone() });
        }
        file.set_len(done).map_err(write)?;
        file.seek(SeekFrom::Start(done)).map_err(write)?;
        let total = response.content_length().map(|length| length + done);
        (self.progress)(done, total);
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(source) => return Ok(Ended::Broken { source, total }),
            };
            // Into the page cache, a few kilobytes at a time: not worth another thread.
            file.write_all(&chunk).map_err(write)?;
            done += chunk.len() as u64;
            (self.progress)(done, total);
        }
        Ok(Ended::Whole)
    }

    /// Gives the verified file its name; its checksum beside it says next time that it is whole.
    fn keep(&self, file: &File, partial: &Path, expected: &Digest, dir: &Path) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(0o755))?;
        file.sync_all()?;
        fs::rename(partial, &self.path)?;
        fs::write(self.beside("sha256"), expected.hex())?;
        File::open(dir)?.sync_all()
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }
}

/// Fetches a text of a few bytes.
pub(super) async fn small_text(client: &Client, url: &str, attempts: u32) -> Result<String, FetchError> {
    let mut failures = 0;
    loop {
        match small_bytes(client, url).await {
            Ok(bytes) => return bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            Err(source) => {
                failures += 1;
                if failures >= attempts {
                    let url = url.to_owned();
                    return Err(FetchError::Transfer { url, attempts, done: 0, total: None, source });
                }
                debug!(url, %source, "a request failed and will be made again");
                tokio::time::sleep(FIRST_WAIT * 2_u32.pow(failures - 1)).await;
            }
        }
    }
}

/// The outer error is worth another attempt, the inner one is not.
async fn small_bytes(client: &Client, url: &str) -> Result<Result<Vec<u8>, FetchError>, reqwest::Error> {
    let response = client.get(url).send().await?;
    let status = response.status();
    if is_passing(status) {
        response.error_for_status()?;
        return Ok(Err(refused(url, status)));
    }
    if !status.is_success() {
        return Ok(Err(refused(url, status)));
    }
    if is_page(&response) {
        return Ok(Err(FetchError::Portal { url: url.to_owned() }));
    }
    let mut bytes = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > MAX_SMALL {
            bytes.truncate(MAX_SMALL);
            break;
        }
    }
    Ok(Ok(bytes))
}

fn refused(url: &str, status: StatusCode) -> FetchError {
    let url = url.to_owned();
    if status == StatusCode::NOT_FOUND {
        FetchError::NotFound { url }
    } else {
        FetchError::Status { url, status }
    }
}

/// Whether a refusal may be another one in a moment.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

/// One process at a time; the lock ends with it.
fn lock(partial: &Path) -> Result<File, FetchError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(partial)
        .map_err(|source| failed("opening", partial, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FetchError::Busy(partial.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed("locking", partial, source)),
    }
}

fn length(file: &File, partial: &Path) -> Result<u64, FetchError> {
    Ok(file.metadata().map_err(|source| failed("reading", partial, source))?.len())
}

async fn hash(path: &Path) -> Result<(Digest, u64), FetchError> {
    let name = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || Digest::of_file(&name)).await;
    hashed
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|source| failed("reading", path, source))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::Io { action, path: path.to_owned(), source }
}
