//! What the daemon serves: the status page, the API, the metrics, and whether it is alive. Every daemon serves them, also
//! one that stands by: what they tell of is in the ledger.

mod actions;
mod api;
mod auth;
mod body;
mod events;
mod examine;
mod glance;
mod idle;
mod listen;
mod metrics;
mod page;
mod problem;
pub mod settings;
mod shared;
mod start;
mod tls;
mod views;

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::api::MigrationState;
use self::auth::{Gate, Sessions, random};
use self::events::Events;
pub use self::examine::examine;
use self::glance::Glance;
use self::metrics::Requests;
use self::problem::Problem;
use self::settings::Settings;
use self::shared::{Shared, SharedByName};
use self::views::Views;
use crate::daemon::jobs::Site;
use crate::daemon::ledger::{Ledger, LedgerError};
use crate::daemon::runner::Runner;
use crate::failure::{Explain, Kind};
use crate::migrate::Journal;

/// Bytes of the largest body that is read.
const LARGEST_BODY: usize = 64 * 1024;
/// The key in the ledger that seals sessions, so that every replica takes them.
const SESSION_KEY: &str = "http-sessions";

/// What every handler has.
#[derive(Debug, Clone)]
struct App(Arc<Inner>);

impl Deref for App {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

#[derive(Debug)]
struct Inner {
    site: Site,
    runner: Runner,
    gate: Gate,
    settings: Settings,
    views: Views,
    events: Events,
    glances: Shared<Glance>,
    /// How migrations stand, each planned for everybody who looks.
    plans: SharedByName<MigrationState>,
    requests: Requests,
    /// The requests that change something.
    changes: TaskTracker,
    /// The runs that were asked for here.
    runs: TaskTracker,
    /// Whether this process leads.
    leads: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Inner {
    fn ledger(&self) -> &Ledger {
        self.runner.ledger()
    }

    /// What the ledger says of all jobs.
    async fn glance(&self) -> Result<Arc<Glance>, Problem> {
        self.glances.get(Glance::of(self.ledger())).await
    }

    /// The journal of the migrations, which is in the ledger.
    fn journal(&self) -> Journal {
        Journal::new(self.ledger().pool().clone())
    }

    /// Something was begun, stopped or has ended here.
    fn changed(&self) {
        self.glances.forget();
        self.plans.forget();
        self.events.poke();
    }
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, or not this machine's.
    #[error("listening on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or its key.
    #[error("the certificate under `http.tls`")]
    Tls(#[source] std::io::Error),
    /// The ledger, which keeps the key of the sessions.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl Explain for HttpError {
    fn kind(&self) -> Kind {
        match self {
            Self::Listen { .. } | Self::Tls(_) => Kind::Config,
            Self::Ledger(inner) => inner.kind(),
            Self::Random => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => Some("look who listens there, or write another `http.listen`".into()),
            Self::Tls(_) => Some("name a chain and the key that belongs to it, both in PEM".into()),
            Self::Ledger(inner) => inner.hint(),
            Self::Random => None,
        }
    }
}

/// A server that has its address.
#[derive(Debug)]
pub struct Server {
    app: App,
    listener: TcpListener,
    tls: Option<tls::Acceptor>,
}

impl std::fmt::Debug for tls::Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Server {
    /// Takes the address and makes everything ready.
    ///
    /// # Errors
    /// Any [`HttpError`].
    pub async fn new(
        site: Site,
        runner: Runner,
        settings: Settings,
        leads: Arc<AtomicBool>,
        stop: CancellationToken,
    ) -> Result<Self, HttpError> {
        let tls = settings.tls.as_ref().map(tls::Acceptor::new).transpose().map_err(HttpError::Tls)?;
        let (one, two) = random().zip(random()).ok_or(HttpError::Random)?;
        let key = runner.ledger().key(SESSION_KEY, &format!("{one}{two}").into()).await?;
        let gate = Gate::new(settings.clone(), Sessions::new(&key, settings.is_secure()));
        let listener =
            listen::bind(settings.listen).map_err(|source| HttpError::Listen { address: settings.listen, source })?;
        let address = listener.local_addr().unwrap_or(settings.listen);
        if !settings.is_secure() && !address.ip().is_loopback() {
            warn!(%address, "tokens travel in clear text; set `http.tls`, or `http.public_url` of an ingress with TLS");
        }
        info!(%address, tls = tls.is_some(), "serving the status page, the API and the metrics");
        let app = App(Arc::new(Inner {
            site,
            runner,
            gate,
            settings,
            views: Views::default(),
            events: Events::default(),
            glances: Shared::default(),
            plans: SharedByName::default(),
            requests: Requests::default(),
            changes: TaskTracker::new(),
            runs: TaskTracker::new(),
            leads,
            stop,
        }));
        Ok(Self { app, listener, tls })
    }

    /// Serves until it is stopped, and then until the runs that were asked for here have ended, at most for the grace
    /// period of the schedule. False when some had not by then.
    pub async fn serve(self) -> bool {
        let Self { app, listener, tls } = self;
        let stop = app.stop.clone();
        if let (Some(acceptor), Some(files)) = (tls.clone(), app.settings.tls.clone()) {
            tokio::spawn(acceptor.renew(files, stop.clone()));
        }
        let serving = listen::serve(listener, tls, router(&app), stop.clone());
        let grace = Duration::from(app.site.policies.schedule.shutdown_grace);
        // Counted from when it was asked to stop, and not from when the last visitor was gone.
        let until = async {
            stop.cancelled().await;
            Instant::now() + grace
        };
        let ((), (), (), (), until) = tokio::join!(
            serving,
            app.views.keep(&app.site, app.ledger(), &stop),
            app.events.follow(&app),
            actions::sweep(&app),
            until
        );
        // Any of these may begin a run still.
        app.changes.close();
        if tokio::time::timeout_at(until, app.changes.wait()).await.is_err() {
            warn!("requests that change something were cut off");
        }
        app.runs.close();
        let ended = tokio::time::timeout_at(until, app.runs.wait()).await.is_ok();
        if !ended {
            warn!("runs that were asked for through HTTP did not stop in time");
        }
        ended
    }
}

fn router(app: &App) -> Router {
    let straight = middleware::from_fn_with_state(app.clone(), auth::straight_or_known);
    Router::new()
        .merge(page::router())
        .merge(api::router())
        .route("/metrics", get(metrics::metrics).layer(straight))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(page::not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), actions::note))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::count))
        .layer(middleware::from_fn_with_state(app.clone(), headers))
        .with_state(app.clone())
}

/// The process is alive as long as it answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// It is ready when the ledger is, without which it can neither tell nor do anything.
async fn readyz(State(app): State<App>) -> Response {
    match app.glance().await {
        Ok(_) => "ready\n".into_response(),
        // Anybody may ask this; the log says more.
        Err(problem) => Problem::new(problem.status(), "the ledger cannot be used").into_response(),
    }
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for this path"))
}

/// What browsers are told about every answer: that nothing of it may be framed, guessed at, kept or sent elsewhere.
async fn headers(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_fixed = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
               form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    // A rehearsal's report has a stricter one of its own.
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(csp));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if !is_fixed {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if app.settings.is_secure() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}
