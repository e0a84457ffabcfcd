//! Ten thousand connections at once, and one that asks and never reads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;

use super::{Api, READ};
use crate::support::site::eventually;

/// Connections of the crowd.
const CROWD: u64 = 10_000;
/// With fewer it is none.
const LEAST: u64 = 4_096;
/// Files that the test and the daemon have beside them.
const OTHER: u64 = 500;
/// Megabytes that the daemon may have with all of them.
const MEMORY: u64 = 512;

fn megabytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// The peers' ports of the connections that whoever listens at this port has and has not closed.
fn connections(to: u16) -> Vec<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let open = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Established, or closed by the other end alone.
        let is_open = matches!(fields[3], "01" | "08");
        (is_open && port(fields[1]) == to).then(|| port(fields[2]))
    });
    open.collect()
}

#[test]
fn a_crowd_keeps_nobody_out() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let may = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER);
    if may < LEAST {
        eprintln!("skipped: this process may have {may} connections, and fewer than {LEAST} are no crowd (ulimit -Hn)");
        return;
    }
    let crowd = CROWD.min(may);
    let api = Api::new("crowd");
    let (pid, address) = (api.daemon.id(), api.base.strip_prefix("http://").unwrap().to_owned());
    api.get("/api/v1/runs").expect(200);
    let (port, memory) = (address.rsplit(':').next().unwrap().parse().unwrap(), megabytes(pid));

    let began = Instant::now();
    let connect = |number: u64| {
        let mut stream = TcpStream::connect(&address).unwrap();
        // Some say nothing, some begin, some ask and stay.
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
            _ => b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        };
        stream.write_all(said).unwrap();
        stream
    };
    let streams: Vec<TcpStream> = (0..crowd).map(connect).collect();
    assert!(began.elapsed() < Duration::from_secs(9), "too slow to have them all at once: {:?}", began.elapsed());
    let crowd = usize::try_from(crowd).unwrap();
    let all = eventually(Duration::from_secs(5), || connections(port).len() >= crowd);
    let (there, full) = (connections(port).len(), megabytes(pid));
    assert!(all, "{there} of {crowd}");
    let asked = Instant::now();
    api.get("/api/v1/status").expect(200);
    api.ask("", "/readyz", &[]).expect(200);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(3), "a request beside them took {took:?}");
    assert!(full < MEMORY, "{full} MB with {crowd} connections, {memory} MB before");
    eprintln!(
        "{crowd} connections in {:?}: {memory} MB, then {full} MB; two requests beside them took {took:?}",
        began.elapsed()
    );

    // They are not kept: who says nothing more is gone within twice the ten seconds, and the rest with the test's end.
    let gone = eventually(Duration::from_secs(40), || connections(port).len() <= 5);
    assert!(gone, "{} of {crowd} are still there", connections(port).len());
    drop(streams);
    api.ask(READ, "/api/v1/status", &[]).expect(200);
    api.is_sound();
}

/// Who asks for more than the system keeps for them, and reads nothing of it, counts as idle.
#[tokio::test]
async fn who_never_reads_is_left() {
    let api = Api::new("unread");
    let asked = 1_000;
    let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    let long = api.ask("", "/openapi.json", &[]).expect(200).body.len() * asked;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = api.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap().into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.write_all(request.repeat(asked).as_bytes()).unwrap();
    let (here, there) = (stream.local_addr().unwrap().port(), stream.peer_addr().unwrap().port());
    assert!(eventually(Duration::from_secs(5), || connections(there).contains(&here)));
    assert!(eventually(Duration::from_secs(60), || !connections(there).contains(&here)), "it is still waited for");
    let mut read = Vec::new();
    // What had been sent by then is there, and then the end or a reset.
    let _ = stream.read_to_end(&mut read);
    assert!(!read.is_empty() && read.len() < long, "{} of {long} bytes", read.len());
    api.is_sound();
}
