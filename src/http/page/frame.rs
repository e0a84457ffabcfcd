//! What every page has around it.

use jiff::Timestamp;

use crate::http::auth::{Principal, Via};
use crate::http::settings::Role;

/// Who is signed in, as it is shown.
pub(super) struct User {
    pub name: String,
    pub role: &'static str,
    /// Whether a sign-out would end anything.
    pub by_session: bool,
}

/// Head and foot of a page.
pub(super) struct Frame {
    pub title: String,
    pub active: &'static str,
    pub user: Option<User>,
    pub csrf: String,
    pub live: bool,
    pub version: &'static str,
    pub now: Timestamp,
}

impl Frame {
    /// A page that keeps itself fresh.
    pub(super) fn of(visitor: &Principal, title: impl Into<String>, active: &'static str) -> Self {
        let user =
            User { name: visitor.name.clone(), role: visitor.role.as_str(), by_session: visitor.via == Via::Session };
        Self { user: Some(user), csrf: visitor.csrf.clone(), live: true, active, ..Self::plain(title) }
    }

    /// The same, which stays as it is.
    pub(super) fn still(self) -> Self {
        Self { live: false, ..self }
    }

    /// A page for whoever it may be.
    pub(super) fn plain(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            active: "",
            user: None,
            csrf: String::new(),
            live: false,
            version: env!("CARGO_PKG_VERSION"),
            now: Timestamp::now(),
        }
    }

    pub(super) fn links(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("/", "Status"),
            ("/retention", "Retention"),
            ("/visibility", "Visibility"),
            ("/backups", "Backups"),
            ("/migrations", "Migrations"),
            ("/runs", "Runs"),
            ("/webhooks", "Webhooks"),
            ("/actions", "Who did what"),
        ]
    }

    pub(super) fn clock(&self) -> String {
        super::format::clock(self.now)
    }
}

/// Whether somebody may start runs.
pub(super) fn may_run(visitor: &Principal) -> bool {
    visitor.role >= Role::Run
}
