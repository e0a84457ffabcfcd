//! Who asks, and what they may: by a token in the header, by the cookie of a session, or by the name that a trusted
//! proxy tells.

mod session;
mod throttle;

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use secrecy::ExposeSecret;

pub(super) use self::session::{Sessions, random};
use self::throttle::Throttle;
use super::App;
use super::problem::{Problem, only};
use super::settings::{Role, Settings, Token};

/// The other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub SocketAddr);

/// How somebody has shown who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// A token in the header `Authorization`: a program, which sends it on purpose.
    Token,
    /// A cookie, which the browser sends by itself.
    Session,
    /// A header of the proxy, which comes by itself as well.
    Proxy,
}

/// Somebody who may be here.
#[derive(Debug, Clone)]
pub(super) struct Principal {
    /// Their name.
    pub name: String,
    /// What they may.
    pub role: Role,
    /// How it is known.
    pub via: Via,
    /// What their forms carry.
    pub csrf: String,
}

impl Principal {
    /// Refuses what they may not.
    pub(super) fn may(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let detail = format!("this needs the role `{}`, and {} has `{}`", role.as_str(), self.name, self.role.as_str());
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// Refuses a form, or a call from a page, that another site has made.
    pub(super) fn check_csrf(&self, given: &str) -> Result<(), Problem> {
        if self.via == Via::Token || session::same(given, &self.csrf) {
            return Ok(());
        }
        let problem = Problem::new(StatusCode::FORBIDDEN, "the form is of another session, or none of sexton's");
        Err(problem.with_hint("load the page again and send it once more"))
    }

    /// Refuses a form of another session, and what somebody may not.
    pub(super) fn sends(&self, csrf: &str, role: Role) -> Result<(), Problem> {
        self.check_csrf(csrf)?;
        self.may(role)
    }

    fn with_token(token: &Token) -> Self {
        Self { name: token.name.clone(), role: token.role, via: Via::Token, csrf: String::new() }
    }
}

/// Keeps the tokens, in a form that can be compared without telling anything by the time it takes.
#[derive(Debug)]
pub(super) struct Gate {
    settings: Settings,
    digests: Vec<blake3::Hash>,
    throttle: Throttle,
    sessions: Sessions,
}

impl Gate {
    pub(super) fn new(settings: Settings, sessions: Sessions) -> Self {
        let digest = |token: &Token| blake3::hash(token.secret.expose_secret().as_bytes());
        let digests = settings.tokens.iter().map(digest).collect();
        Self { settings, digests, throttle: Throttle::default(), sessions }
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    fn is_behind_proxy(&self, peer: SocketAddr) -> bool {
        self.settings.proxy.as_ref().is_some_and(|proxy| proxy.is_trusted(peer.ip()))
    }

    /// Where a request comes from: the last address that no trusted proxy has. What is no address ends the way there, so
    /// that nothing in front of it is believed.
    pub(super) fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let told = headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap_or_default());
        let hops: Vec<&str> = told.flat_map(|value| value.split(',')).collect();
        let mut last = peer.ip().to_canonical();
        for hop in hops.iter().rev().map_while(|hop| hop_of(hop)) {
            if !self.settings.has_proxy_at(last) {
                break;
            }
            last = hop;
        }
        last
    }

    /// The token with this text. Wrong ones are counted by address.
    pub(super) fn token(&self, text: &str, address: IpAddr) -> Result<&Token, Problem> {
        let now = Instant::now();
        if let Some(wait) = self.throttle.wait(address, now) {
            let detail = "too many wrong tokens came from this address";
            let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
            problem.retry_after = Some(wait.as_secs() + 1);
            return Err(problem.with_hint(format!("wait {} seconds", wait.as_secs() + 1)));
        }
        self.lookup(text).ok_or_else(|| {
            self.throttle.failed(address, now);
            Problem::new(StatusCode::UNAUTHORIZED, "this token is not known")
        })
    }

    fn lookup(&self, text: &str) -> Option<&Token> {
        let digest = blake3::hash(text.as_bytes());
        // All are compared, and `Hash` compares in constant time.
        let mut found = None;
        for (token, known) in self.settings.tokens.iter().zip(&self.digests) {
            if *known == digest {
                found = Some(token);
            }
        }
        found
    }

    fn with_cookie(&self, headers: &HeaderMap) -> Option<Principal> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        for (_, value) in pairs.filter(|(name, _)| *name == self.sessions.cookie_name()) {
            let found = self.sessions.read(value, &self.settings.tokens, Timestamp::now());
            let Some((session, place)) = found else { continue };
            let role = self.settings.tokens.get(place)?.role;
            let csrf = self.sessions.csrf("session", &session.name, &session.nonce);
            return Some(Principal { name: session.name, role, via: Via::Session, csrf });
        }
        None
    }

    fn with_proxy(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Option<Principal>, Problem> {
        let Some(proxy) = self.settings.proxy.as_ref().filter(|proxy| proxy.is_trusted(peer.ip())) else {
            return Ok(None);
        };
        let Ok(Some(name)) = only(headers, &proxy.user_header) else { return Ok(None) };
        let name = name.to_str().unwrap_or_default().trim();
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            return Ok(None);
        }
        let Some(role) = proxy.role(name) else {
            return Err(Problem::new(StatusCode::FORBIDDEN, format!("{name} may do nothing here"))
                .with_hint("add the name under `http.proxy.roles` in the configuration"));
        };
        let csrf = self.sessions.csrf("proxy", name, "");
        Ok(Some(Principal { name: name.to_owned(), role, via: Via::Proxy, csrf }))
    }

    /// Who asks, if that is somebody; a wrong token is not counted as another attempt.
    pub(super) fn known(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<Principal> {
        let given = only(headers, header::AUTHORIZATION.as_str()).ok()?;
        if let Some(token) = given.and_then(bearer) {
            return self.lookup(token).map(Principal::with_token);
        }
        self.with_cookie(headers).or_else(|| self.with_proxy(peer, headers).ok().flatten())
    }

    /// Who asks; `None` when nobody says so.
    pub(super) fn principal(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Option<Principal>, Problem> {
        if let Some(given) = only(headers, header::AUTHORIZATION.as_str())? {
            match bearer(given) {
                Some(token) => {
                    let token = self.token(token, self.address(peer, headers))?;
                    return Ok(Some(Principal::with_token(token)));
                }
                // oauth2-proxy sends the name as a login of its own, unless it is told not to.
                None if self.is_behind_proxy(peer) => {}
                None => {
                    let detail = "the header Authorization holds no bearer token";
                    return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
                }
            }
        }
        match self.with_cookie(headers) {
            Some(principal) => Ok(Some(principal)),
            None => self.with_proxy(peer, headers),
        }
    }
}

/// An address as proxies write it, some with the port.
fn hop_of(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// The token in a header `Authorization`.
fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The address of whoever asks.
pub(super) fn peer(parts: &Parts) -> SocketAddr {
    // Every connection has one; without it nothing is trusted.
    parts.extensions.get::<Peer>().map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |peer| peer.0)
}

/// What proxies add to what they pass on.
const BY_PROXIES: [&str; 4] = ["x-forwarded-for", "x-real-ip", "x-forwarded-host", "forwarded"];

/// Lets whoever comes straight to the server by, and by way of a proxy only somebody who may look: what is open to the
/// cluster is not open to everybody whom an ingress lets in.
pub(super) async fn straight_or_known(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    if BY_PROXIES.iter().any(|name| parts.headers.contains_key(*name)) {
        Reader::from_request_parts(&mut parts, &app).await?;
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Whether a browser says that another site has made this request.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    !matches!(site, None | Some("same-origin" | "none"))
}

impl FromRequestParts<App> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let found = app.gate.principal(peer(parts), &parts.headers)?;
        let unknown = || {
            Problem::new(StatusCode::UNAUTHORIZED, "nobody is signed in")
                .with_hint("send `Authorization: Bearer TOKEN`, or sign in on the page")
        };
        let principal = found.ok_or_else(unknown)?;
        let changes = !matches!(parts.method, Method::GET | Method::HEAD);
        if changes && principal.via != Via::Token && is_cross_site(&parts.headers) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "another site has sent this request"));
        }
        Ok(principal)
    }
}

/// Somebody may look: who it is makes no difference to what they see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader;

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Principal::from_request_parts(parts, app).await?.may(Role::Read)?;
        Ok(Self)
    }
}

macro_rules! allowed {
    ($(#[$doc:meta])* $name:ident, $role:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(super) struct $name(pub Principal);

        impl FromRequestParts<App> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
                let principal = Principal::from_request_parts(parts, app).await?;
                principal.may($role)?;
                if !matches!(parts.method, Method::GET | Method::HEAD) {
                    let given = parts.headers.get("x-csrf-token").and_then(|value| value.to_str().ok());
                    principal.check_csrf(given.unwrap_or_default()).map_err(|_| {
                        let detail = "the header `X-CSRF-Token` is missing, or of another session";
                        let hint = "send `X-CSRF-Token`, or `Authorization: Bearer TOKEN` without a cookie";
                        Problem::new(StatusCode::FORBIDDEN, detail).with_hint(hint)
                    })?;
                }
                Ok(Self(principal))
            }
        }
    };
}

allowed!(
    /// Somebody who may start and stop runs.
    Operator,
    Role::Run
);
allowed!(
    /// Somebody who may approve migrations.
    Approver,
    Role::Approve
);
