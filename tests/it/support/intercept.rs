//! A door in front of a search engine: everything goes through, and a test may do something of its own exactly before
//! or after one of sexton's calls.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sexton::clients::search::Settings;

use super::search::Engine;

/// The door; it closes with the value.
#[derive(Debug)]
pub struct Intercept {
    shared: Arc<Shared>,
    engine: Engine,
    address: String,
}

#[derive(Debug)]
struct Shared {
    /// `host:port` of the engine, which speaks plain HTTP.
    upstream: String,
    traps: Mutex<Vec<Trap>>,
    calls: Mutex<Vec<String>>,
    stop: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the call reaches the engine.
    Before,
    /// After the engine's answer, before sexton gets it.
    After,
}

struct Trap {
    when: When,
    call: String,
    body: String,
    act: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.when, self.call, self.body)
    }
}

impl Intercept {
    /// Opens a door on a port of its own.
    pub fn new(engine: Engine) -> Self {
        let upstream = engine.url.strip_prefix("http://").expect("plain HTTP").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (traps, calls, stop) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { upstream, traps, calls, stop });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serving.serve(&listener));
        Self { shared, engine, address }
    }

    /// Settings of sexton's client for the engine behind the door.
    pub fn settings(&self) -> Settings {
        Settings { url: format!("http://{}", self.address).parse().unwrap(), ..self.engine.settings() }
    }

    /// Once, before the next call that begins with `METHOD /path` and whose body holds the text.
    pub fn before(&self, call: &str, body: &str, act: impl FnOnce() + Send + 'static) {
        self.trap(When::Before, call, body, act);
    }

    /// Once, after the next such call was answered and before sexton sees the answer.
    pub fn after(&self, call: &str, body: &str, act: impl FnOnce() + Send + 'static) {
        self.trap(When::After, call, body, act);
    }

    fn trap(&self, when: When, call: &str, body: &str, act: impl FnOnce() + Send + 'static) {
        let trap = Trap { when, call: call.to_owned(), body: body.to_owned(), act: Box::new(act) };
        lock(&self.shared.traps).push(trap);
    }

    /// Panics when something that was to happen did not.
    #[track_caller]
    pub fn all_happened(&self) {
        let left = lock(&self.shared.traps);
        assert!(left.is_empty(), "never happened: {left:?}, of the calls {:#?}", lock(&self.shared.calls));
    }

    /// Every call so far: `POST /_bulk`.
    pub fn calls(&self) -> Vec<String> {
        lock(&self.shared.calls).clone()
    }
}

impl Drop for Intercept {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(&self.address));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    /// A thread for each connection, until the door is closed.
    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.converse(stream));
        }
    }

    /// The client's requests in turn, each to the engine and its answer back.
    fn converse(&self, client: TcpStream) -> Option<()> {
        let engine = TcpStream::connect(&self.upstream).ok()?;
        for stream in [&client, &engine] {
            stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
            stream.set_nodelay(true).ok()?;
        }
        let (mut to_client, mut to_engine) = (client.try_clone().ok()?, engine.try_clone().ok()?);
        let (mut client, mut engine) = (BufReader::new(client), BufReader::new(engine));
        loop {
            let request = Message::read(&mut client)?;
            let call = request.first.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            let body = String::from_utf8_lossy(&request.body).into_owned();
            lock(&self.calls).push(call.clone());
            self.spring(When::Before, &call, &body);
            to_engine.write_all(&request.bytes()).ok()?;
            let answer = Message::read(&mut engine)?;
            self.spring(When::After, &call, &body);
            to_client.write_all(&answer.bytes()).ok()?;
        }
    }

    fn spring(&self, when: When, call: &str, body: &str) {
        let fits = |trap: &Trap| trap.when == when && call.starts_with(&trap.call) && body.contains(&trap.body);
        let trap = {
            let mut traps = lock(&self.traps);
            traps.iter().position(fits).map(|place| traps.remove(place))
        };
        if let Some(trap) = trap {
            (trap.act)();
        }
    }
}

/// A request or an answer.
struct Message {
    first: String,
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// `None` at the end of the connection.
    fn read(from: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut first = String::new();
        from.read_line(&mut first).ok().filter(|read| *read > 0)?;
        let (mut head, mut length, mut chunked) = (first.clone(), 0, false);
        loop {
            let mut line = String::new();
            from.read_line(&mut line).ok().filter(|read| *read > 0)?;
            head.push_str(&line);
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
            chunked |= name.eq_ignore_ascii_case("transfer-encoding");
        }
        let mut body = Vec::new();
        if chunked {
            // Handed on as it is: chunks up to the empty one, each with its size before it.
            loop {
                let mut size = String::new();
                from.read_line(&mut size).ok().filter(|read| *read > 0)?;
                let bytes = usize::from_str_radix(size.trim_end(), 16).ok()?;
                let mut chunk = vec![0; bytes + 2];
                from.read_exact(&mut chunk).ok()?;
                body.extend_from_slice(size.as_bytes());
                body.extend_from_slice(&chunk);
                if bytes == 0 {
                    break;
                }
            }
        } else {
            body.resize(length, 0);
            from.read_exact(&mut body).ok()?;
        }
        Some(Self { first, head, body })
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }
}
