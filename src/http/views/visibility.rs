//! The visibility index: what `sexton visibility` shows, but for the documents that only a reconcile looks at.

use serde::Serialize;

use crate::context::Context;
use crate::daemon::jobs::Site;
use crate::failure::Failure;
use crate::visibility::Explanation;

/// What there is of visibility.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::http) enum VisibilityView {
    /// It is in a search engine.
    Index(Box<Explanation>),
    /// It is in PostgreSQL.
    Postgresql {
        /// What can be said about it.
        notes: Vec<String>,
    },
}

pub(super) async fn look(site: &Site) -> Result<VisibilityView, Failure> {
    let ctx = Context::plain();
    if site.config.search.is_none() {
        return Ok(VisibilityView::Postgresql { notes: site.explain_sql_visibility(&ctx).await });
    }
    Ok(VisibilityView::Index(Box::new(site.outline_visibility(&ctx).await?)))
}
