//! Whether a daemon could serve here, as `sexton doctor` tells it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{HttpError, listen, tls};
use crate::daemon::jobs::Site;
use crate::doctor::Finding;

const SYSTEM: &str = "http";
/// What sexton's description begins with, without white space.
const TITLE: &str = "\"title\":\"sexton\"";
/// How long whoever listens on the address may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the daemon could serve: its tokens and files are there, the certificate and the key fit together, and the
/// address is free, or a daemon's already.
pub async fn examine(site: &Site) -> Vec<Finding> {
    let settings = match site.config.http() {
        Ok(Some(settings)) => settings,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Finding::failed(SYSTEM, "settings", error)],
    };
    let mut findings = Vec::new();
    if let Some(tls) = &settings.tls {
        findings.push(match tls::Acceptor::new(tls).map_err(HttpError::Tls) {
            Ok(_) => Finding::ok(SYSTEM, "certificate", format!("{} and its key", tls.certificate.display())),
            Err(error) => Finding::failed(SYSTEM, "certificate", error),
        });
    }
    findings.push(address(settings.listen, settings.tls.is_none()).await);
    findings
}

async fn address(listen: SocketAddr, is_plain: bool) -> Finding {
    const SUBJECT: &str = "address";
    let taken = |what: &str| {
        let detail = format!("{what} listens at {listen}, so that a daemon could not");
        Finding::warning(SYSTEM, SUBJECT, detail, "look who that is, or write another `http.listen`")
    };
    match listen::reserve(listen) {
        Ok(_) => Finding::ok(SYSTEM, SUBJECT, format!("{listen} is free")),
        Err(source) if source.kind() == ErrorKind::AddrInUse => match is_plain {
            true if is_sexton(listen).await => Finding::ok(SYSTEM, SUBJECT, format!("a daemon serves at {listen}")),
            true => taken("something else"),
            // Whoever may show a client's certificate alone cannot be asked.
            false => taken("a daemon, or something else,"),
        },
        Err(source) => Finding::failed(SYSTEM, SUBJECT, HttpError::Listen { address: listen, source }),
    }
}

/// Whether what answers at an address answers as sexton does.
async fn is_sexton(listen: SocketAddr) -> bool {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(4 * 1024).read_to_end(&mut answer).await?;
        answer.retain(|byte| !byte.is_ascii_whitespace());
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).contains(TITLE))
    };
    tokio::time::timeout(PATIENCE, ask).await.is_ok_and(|said| said.unwrap_or(false))
}
