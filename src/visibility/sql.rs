//! Visibility in PostgreSQL: there is nothing to roll, Temporal deletes each row with its run. It is only looked at
//! whether that keeps up.

use std::time::Duration;

use serde::Serialize;

use super::VisibilityError;
use crate::clients::persistence::Persistence;
use crate::clients::temporal::Temporal;
use crate::context::Context;
use crate::units::Span;

/// A row is overdue so long after its run's retention has ended: Temporal deletes within the hour.
const SLACK: Duration = Duration::from_secs(24 * 3_600);

/// Rows are counted up to here.
const MOST: u32 = 100_000;

/// A namespace whose rows outlive their runs' retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overdue {
    /// The namespace.
    pub namespace: String,
    /// Its retention.
    pub retention: Span,
    /// Rows of runs that ended a day and more before it; 100,000 stands for that many or more.
    pub rows: u64,
}

/// The namespaces with rows that should be gone. `visibility` is the database that holds `executions_visibility`.
///
/// # Errors
/// When Temporal or the database cannot be asked.
pub async fn overdue(
    temporal: &Temporal,
    visibility: &Persistence,
    ctx: &Context,
) -> Result<Vec<Overdue>, VisibilityError> {
    let mut session = visibility.connect().await?;
    let mut overdue = Vec::new();
    for namespace in temporal.list_namespaces().await? {
        let life = namespace.retention.saturating_add(SLACK);
        let Ok(before) = ctx.now.checked_sub(life) else { continue };
        let rows = session.listed_runs_closed_before(namespace.id, before, MOST).await?;
        if rows > 0 {
            overdue.push(Overdue { namespace: namespace.name, retention: namespace.retention.into(), rows });
        }
    }
    Ok(overdue)
}
