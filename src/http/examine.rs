//! Whether a daemon could serve here, as `sexton doctor` tells it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{HttpError, bind, tls};
use crate::daemon::jobs::Site;
use crate::doctor::Finding;

const SYSTEM: &str = "http";
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
    let (listen, is_plain) = (settings.listen, settings.tls.is_none());
    let address = tokio::task::spawn_blocking(move || address(listen, is_plain)).await;
    findings.extend(address.ok());
    findings
}

fn address(listen: SocketAddr, is_plain: bool) -> Finding {
    const SUBJECT: &str = "address";
    match bind(listen) {
        Ok(_) => Finding::ok(SYSTEM, SUBJECT, format!("{listen} is free")),
        Err(HttpError::Listen { source, .. }) if source.kind() == ErrorKind::AddrInUse => match is_plain {
            true if is_sexton(listen) => Finding::ok(SYSTEM, SUBJECT, format!("a daemon serves at {listen}")),
            true => Finding::warning(
                SYSTEM,
                SUBJECT,
                format!("something else listens at {listen}, so that the daemon could not"),
                "look who that is, or write another `http.listen`",
            ),
            false => Finding::ok(
                SYSTEM,
                SUBJECT,
                format!("{listen} is in use, as by a daemon; through TLS nobody was asked"),
            ),
        },
        Err(error) => Finding::failed(SYSTEM, SUBJECT, error),
    }
}

/// Whether what answers at an address answers as sexton does.
fn is_sexton(listen: SocketAddr) -> bool {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(4 * 1024).read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"ok\n"))
}
