//! Addresses that services earn: each for itself.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bootstrap::anycast::{self, Anycast, Probe};
use tests::netns::Namespace;
use tokio::sync::watch;
use tokio::time::timeout;

const DEAF: &str = "2001:db8:f::1";
const WELL: &str = "2001:db8:f::2";
/// How long what is certain to come may take.
const LIMIT: Duration = Duration::from_secs(30);

fn held(name: &str, address: &str, server: &TcpListener) -> Result<Anycast> {
    let probe = Probe::http(format!("http://{}/", server.local_addr()?))?;
    Ok(Anycast { name: name.to_owned(), address: address.parse()?, probe, only_with: None })
}

/// Answers until it is dropped, which is after so many answers.
fn answer(server: &TcpListener, times: usize) -> Result<()> {
    for _ in 0..times {
        let (mut client, _) = server.accept()?;
        let _asked = client.read(&mut [0; 1024])?;
        client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    }
    Ok(())
}

#[test]
fn one_that_does_not_answer_keeps_no_other_from_coming_and_going() -> Result<()> {
    // As in the product's own main function; another test may have done it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let node = Namespace::start("anycast")?;
    let has = |address: &str| -> Result<bool> {
        Ok(node.run("ip", &["-6", "address", "show", "dev", "lo"])?.contains(address))
    };
    node.network()?.ip(&["link", "set", "lo", "up"])?;
    let network = node.network()?;
    let (status, mut seen) = watch::channel(Vec::new());
    let (stop, stopped) = watch::channel(false);
    let keeper = network.spawn("keeper", move || -> Result<()> {
        // Its queue takes connections, and nobody ever reads what is asked.
        let deaf = TcpListener::bind("[::1]:0")?;
        let well = TcpListener::bind("[::1]:0")?;
        let all = vec![held("deaf", DEAF, &deaf)?, held("well", WELL, &well)?];
        std::thread::spawn(move || answer(&well, 2));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(anycast::keep(all, status, stopped))
    })?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut told = |want: bool| -> Result<Vec<anycast::AnycastStatus>> {
        let well = seen.wait_for(|all| all.iter().any(|one| one.name == "well" && one.held == want));
        let all = runtime.block_on(async { timeout(LIMIT, well).await })?.context("the keeper has ended")?;
        Ok(all.clone())
    };
    // Nothing is known yet of the one that was asked first.
    let first = told(true)?;
    ensure!(first.len() == 1 && has(WELL)?, "{first:?}");
    told(false)?;
    ensure!(!has(WELL)?, "it is told of what was not done");
    ensure!(!has(DEAF)?);
    stop.send_replace(true);
    keeper.join().expect("the keeper panics")?
}
