//! Load for `make bench-http`: `bench-http ADDRESS SECONDS RATE`, with a token in BENCH_TOKEN. Requests go out when they
//! are due, over connections that are kept, and a latency counts from then: a server that stalls is not spared by a
//! client that waits for it. Prints requests per second, the 99th percentile in milliseconds, and what went wrong.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const CONNECTIONS: u32 = 32;
const PATHS: [&str; 3] = ["/api/v1/status", "/api/v1/jobs", "/api/v1/runs"];

/// Asks once and reads the whole answer.
fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Result<()> {
    stream.write_all(request)?;
    buffer.clear();
    let mut part = [0; 64 * 1024];
    let (mut whole, mut read) = (None, 0);
    while whole.is_none_or(|whole| read < whole) {
        let n = stream.read(&mut part)?;
        ensure!(n > 0, "the connection was closed");
        read += n;
        if whole.is_none() {
            buffer.extend_from_slice(&part[..n]);
            whole = length(buffer)?;
        }
    }
    Ok(())
}

/// Bytes of head and body, once the head is there.
fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{}", head.lines().next().unwrap_or_default());
    let lengths = head.lines().filter_map(|line| line.split_once(": "));
    let body = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    Ok(Some(end + 4 + body.context("no length")?.parse::<usize>()?))
}

/// What one connection does: its share of the rate, every path in turn.
fn one(address: &str, token: &str, number: u32, every: Duration, until: Instant) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes()
    };
    let requests = PATHS.map(request);
    let (mut buffer, mut took) = (Vec::new(), Vec::new());
    let mut due = Instant::now() + every * number / CONNECTIONS;
    for request in requests.iter().cycle() {
        if due >= until {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        ask(&mut stream, request, &mut buffer)?;
        took.push(due.elapsed());
        due += every;
    }
    Ok(took)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, seconds, rate] = args.as_slice() else { bail!("bench-http ADDRESS SECONDS RATE") };
    let (seconds, rate): (u64, u32) = (seconds.parse()?, rate.parse()?);
    let token = std::env::var("BENCH_TOKEN").context("BENCH_TOKEN")?;
    let (every, began) = (Duration::from_secs(1) * CONNECTIONS / rate, Instant::now());
    let until = began + Duration::from_secs(seconds);
    let all: Vec<Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let (address, token) = (address.as_str(), token.as_str());
        let start = |number| scope.spawn(move || one(address, token, number, every, until));
        let threads: Vec<_> = (0..CONNECTIONS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked"))).collect()
    });
    let spent = began.elapsed().as_secs_f64();
    let mut took = all.into_iter().collect::<Result<Vec<_>>>()?.concat();
    took.sort();
    let at = |share: usize| took.get(took.len() * share / 1000).or(took.last()).copied().unwrap_or_default();
    let ms = |share| at(share).as_secs_f64() * 1000.0;
    println!("{:.0} {:.1} {:.1} {:.1}", took.len() as f64 / spent, ms(500), ms(990), ms(999));
    Ok(())
}
