//! The listener: connections in, requests to the router, with bounds on how many there are and how slow they may be.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::auth::Peer;
use super::idle::{Activity, Sent};
use super::tls::Acceptor;

/// Connections at one time; more wait in the system's queue.
const CONNECTIONS: usize = 16_384;
/// How long a TLS handshake, and the head of a request, may take. An idle connection is closed after as long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long requests that are being answered may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// How long it waits when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is stopped.
pub(super) async fn serve(listener: TcpListener, tls: Option<Acceptor>, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let next = async { (Arc::clone(&room).acquire_owned().await, listener.accept().await) };
        let Some((Ok(place), accepted)) = stop.run_until_cancelled(next).await else { break };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // A connection that was gone already says nothing about the next one; no more files does.
                debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
        connections.spawn(async move {
            match tls {
                None => connection(stream, peer, router, stop).await,
                Some(tls) => match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, peer, router, stop).await,
                    Ok(Err(error)) => debug!(%peer, %error, "no TLS connection"),
                    Err(_) => debug!(%peer, "a TLS handshake was given up"),
                },
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        warn!("requests were cut off");
    }
}

/// Answers the requests of one connection. Once the server stops, or when nobody has asked for anything for a while, it is
/// closed as soon as nothing is being answered.
async fn connection<S>(stream: S, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let requests = activity.clone();
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, in_flight) = (router.clone(), requests.begin());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            Ok::<_, Infallible>(response.map(|body| Sent { body, _request: in_flight }))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(32 * 1024);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(PATIENCE)).keep_alive_timeout(PATIENCE);
    builder.http2().max_concurrent_streams(64).max_header_list_size(32 * 1024);
    let connection = builder.serve_connection(TokioIo::new(stream), answer).into_owned();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // The builder has no limit of its own before it knows which HTTP is spoken, nor for one of HTTP/2 that is silent.
        () = activity.idle(PATIENCE) => {
            debug!(%peer, "an idle connection is closed");
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(PATIENCE, connection).await.unwrap_or(Ok(()))
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection ended early");
    }
}

/// Binds the address.
///
/// # Errors
/// When it is taken, or not this machine's.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    raise_files();
    reserve(address)?.listen(4096)
}

/// Takes the address, and does not listen yet.
///
/// # Errors
/// As [`bind`].
pub(super) fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted pod must not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Every connection is an open file: the limit of the process goes up to what the system allows.
fn raise_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// The stream of a plain connection, named for the acceptor.
pub(super) type Plain = TcpStream;
