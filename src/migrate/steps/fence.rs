//! The `fence` operation: databases that nobody but sexton and superusers may connect to. Without it a server that
//! somebody forgot to stop would go on writing to what has been copied already.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{Act, Ran, Reversal, StepError};
use crate::clients::postgres::quote_identifier;
use crate::failure::{Failure, Kind};
use crate::migrate::error::MigrateError;
use crate::migrate::hands::Hands;
use crate::migrate::names::Database;
use crate::migrate::world::Server;

/// How long sessions that were ended may take to be gone.
const GONE: Duration = Duration::from_secs(30);

/// The databases that are fenced.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FenceStep {
    /// Which; those that the site does not have are left out.
    #[serde(default = "both")]
    pub databases: Vec<Database>,
}

fn both() -> Vec<Database> {
    vec![Database::Main, Database::Visibility]
}

/// Who may connect; an empty name is everybody (PUBLIC).
const MAY_CONNECT: &str = "SELECT coalesce(r.rolname, '')::text AS role, a.grantee = me.oid AS is_me, \
    coalesce(r.rolsuper, false) AS is_super, a.is_grantable \
    FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
    LEFT JOIN pg_roles r ON r.oid = a.grantee, pg_roles me \
    WHERE d.datname = current_database() AND me.rolname = current_user AND a.privilege_type = 'CONNECT' ORDER BY 1";
/// Sessions of others. sexton's own are told by their name, which they all have. Of roles it is no member of, a role
/// that is not in pg_read_all_stats sees no kind of session; those that are no client's have no role.
const OTHERS: &str = "SELECT pid, usename::text AS role, coalesce(application_name, '')::text AS program FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL \
      AND coalesce(backend_type, 'client backend') = 'client backend' \
      AND NOT (usename = current_user AND coalesce(application_name, '') = 'sexton')";
const MYSELF: &str = "SELECT r.rolsuper AS is_super, d.datdba = r.oid AS is_owner, current_user::text AS role, \
    current_database()::text AS database FROM pg_roles r, pg_database d \
    WHERE r.rolname = current_user AND d.datname = current_database()";

/// The databases of a list that the site has.
fn each<'d>(databases: &'d [Database], hands: &Hands<'_>) -> Vec<&'d Database> {
    let source = &hands.world.source;
    databases.iter().filter(|database| !matches!(source.name(database), Err(MigrateError::NoVisibility))).collect()
}

impl FenceStep {
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.databases.is_empty() {
            true => Err("`databases` is empty; name one, or leave it out for all of Temporal's".to_owned()),
            false => Ok(()),
        }
    }
}

fn sql(error: sqlx::Error) -> StepError {
    super::SqlFailure::Database(error).into()
}

/// One line of the access list.
struct Grantee {
    role: String,
    is_me: bool,
    is_super: bool,
    may_grant: bool,
}

async fn grantees(session: &mut PgConnection) -> Result<Vec<Grantee>, StepError> {
    let rows = sqlx::query(MAY_CONNECT).fetch_all(session).await.map_err(sql)?;
    let one = |row: &sqlx::postgres::PgRow| -> Result<Grantee, sqlx::Error> {
        let (role, is_me) = (row.try_get("role")?, row.try_get("is_me")?);
        Ok(Grantee { role, is_me, is_super: row.try_get("is_super")?, may_grant: row.try_get("is_grantable")? })
    };
    rows.iter().map(one).collect::<Result<_, _>>().map_err(sql)
}

/// A role that may connect, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Kept {
    role: String,
    /// WITH GRANT OPTION.
    may_grant: bool,
}

async fn is_there(session: &mut PgConnection, role: &str) -> Result<bool, StepError> {
    let asked = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)").bind(role);
    asked.fetch_one(session).await.map_err(sql)
}

async fn others(session: &mut PgConnection) -> Result<Vec<String>, StepError> {
    let rows = sqlx::query(OTHERS).fetch_all(session).await.map_err(sql)?;
    let one = |row: &sqlx::postgres::PgRow| -> Result<String, sqlx::Error> {
        let (pid, role, program): (i32, String, String) =
            (row.try_get("pid")?, row.try_get("role")?, row.try_get("program")?);
        Ok(format!("pid {pid} of role `{role}`{}", if program.is_empty() { program } else { format!(" ({program})") }))
    };
    rows.iter().map(one).collect::<Result<_, _>>().map_err(sql)
}

/// That a fence would hold: the role is not the one it is to keep out.
async fn examine(session: &mut PgConnection) -> Result<(), StepError> {
    let row = sqlx::query(MYSELF).fetch_one(session).await.map_err(sql)?;
    let (is_super, is_owner): (bool, bool) =
        (row.try_get("is_super").map_err(sql)?, row.try_get("is_owner").map_err(sql)?);
    let (role, database): (String, String) = (row.try_get("role").map_err(sql)?, row.try_get("database").map_err(sql)?);
    if is_owner && !is_super {
        let message =
            format!("database `{database}` cannot be fenced by its owner `{role}`, as which Temporal logs in");
        let hint = format!(
            "give sexton a role of its own that is a member of it: GRANT {} TO sexton",
            quote_identifier(&role)
        );
        return Err(StepError::Failed(Failure::new(Kind::Refused, message).with_hint(hint)));
    }
    Ok(())
}

async fn execute(session: &mut PgConnection, statement: String) -> Result<(), StepError> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(session).await.map(drop).map_err(sql)
}

fn role(name: &str) -> String {
    if name.is_empty() { "PUBLIC".to_owned() } else { quote_identifier(name) }
}

#[async_trait]
impl Act for FenceStep {
    fn reversal(&self) -> Reversal {
        Reversal::Undo
    }

    async fn check(&self, hands: &mut Hands<'_>) -> Result<Option<bool>, StepError> {
        for database in each(&self.databases, hands) {
            let session = hands.session(Server::Source, database).await?;
            examine(session).await?;
            let open = grantees(session).await?.iter().any(|one| !one.is_me && !one.is_super);
            if open || !others(session).await?.is_empty() {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// Who may connect now, by database.
    async fn prepare(&self, hands: &mut Hands<'_>) -> Result<Value, StepError> {
        let mut kept = Map::new();
        for database in each(&self.databases, hands) {
            let session = hands.session(Server::Source, database).await?;
            let all = grantees(session).await?.into_iter();
            // A role may stand in the list more than once, by those who have let it in.
            let mut roles: Vec<Kept> = Vec::new();
            for one in all.map(|one| Kept { role: one.role, may_grant: one.may_grant }) {
                match roles.iter_mut().find(|kept| kept.role == one.role) {
                    Some(kept) => kept.may_grant |= one.may_grant,
                    None => roles.push(one),
                }
            }
            let me: String =
                sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut *session).await.map_err(sql)?;
            kept.insert(database.to_string(), json!({ "connect": roles, "sexton": me }));
        }
        Ok(Value::Object(kept))
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let mut ended = 0;
        for database in each(&self.databases, hands) {
            let name = quote_identifier(hands.world.source.name(database)?);
            let cancel = hands.ctx.cancel.clone();
            let session = hands.session(Server::Source, database).await?;
            examine(session).await?;
            // First, so that there is no instant in which sexton itself is outside.
            execute(session, format!("GRANT CONNECT ON DATABASE {name} TO CURRENT_USER")).await?;
            for one in grantees(session).await?.iter().filter(|one| !one.is_me && !one.is_super) {
                // Whom such a role has let in is in the list, and kept, too.
                execute(session, format!("REVOKE CONNECT ON DATABASE {name} FROM {} CASCADE", role(&one.role))).await?;
            }
            let until = Instant::now() + GONE;
            // Twice nobody: one that was logging in while it was revoked shows up late.
            let mut quiet = 0;
            while quiet < 2 {
                let left = others(session).await?;
                quiet = if left.is_empty() { quiet + 1 } else { 0 };
                if !left.is_empty() && Instant::now() >= until {
                    let message = format!("{} still connected to {name}: {}", left.len(), left.join(", "));
                    let hint = "stop them (superusers cannot be kept out; to end sessions of others the role needs \
                                pg_signal_backend or membership in theirs), then run the migration again";
                    return Err(StepError::new(Kind::Failed, message, hint));
                }
                let end = format!("SELECT count(pg_terminate_backend(pid)) FROM ({OTHERS}) AS others");
                match sqlx::query_scalar::<_, i64>(AssertSqlSafe(end)).fetch_one(&mut *session).await {
                    Ok(count) => ended += count,
                    // Without the right to end them they may still end by themselves.
                    Err(error) => tracing::info!(%error, "sessions of others could not be ended"),
                }
                if cancel.is_cancelled() {
                    return Err(StepError::Cancelled);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(Ran::once(json!({ "sessions_ended": ended })))
    }

    async fn undo(&self, hands: &mut Hands<'_>, kept: &Value) -> Result<(), StepError> {
        for database in each(&self.databases, hands) {
            let name = quote_identifier(hands.world.source.name(database)?);
            let session = hands.session(Server::Source, database).await?;
            let Some(kept) = kept.get(database.to_string()) else { continue };
            let connect: Vec<Kept> = super::kept(&kept["connect"])?;
            for one in &connect {
                // A role that was dropped meanwhile has nothing to come back to.
                if !one.role.is_empty() && !is_there(session, &one.role).await? {
                    tracing::warn!(role = one.role, "the role is gone, and is not let in again");
                    continue;
                }
                let option = if one.may_grant { " WITH GRANT OPTION" } else { "" };
                execute(session, format!("GRANT CONNECT ON DATABASE {name} TO {}{option}", role(&one.role))).await?;
            }
            let me = kept["sexton"].as_str().unwrap_or_default();
            if !me.is_empty() && !connect.iter().any(|one| one.role == me) && is_there(session, me).await? {
                execute(session, format!("REVOKE CONNECT ON DATABASE {name} FROM {}", role(me))).await?;
            }
        }
        Ok(())
    }
}
