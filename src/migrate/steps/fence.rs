//! The `fence` operation: databases that nobody but sexton and superusers may connect to. Without it a server that
//! somebody forgot to stop would go on writing to what has been copied already.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

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

// In all of these sexton is who it logs in as: that is who needs CONNECT, and whose name a session has. `role` of the
// configuration is only who it acts as then.

/// Who may connect, and who has let them in; an empty name is everybody (PUBLIC).
const MAY_CONNECT: &str = "SELECT coalesce(r.rolname, '')::text AS role, a.grantee::int8 AS oid, a.grantee = me.oid AS is_me, \
    coalesce(r.rolsuper, false) AS is_super, a.is_grantable, pg_get_userbyid(a.grantor)::text AS grantor, \
    a.grantor <> d.datdba AND pg_has_role(session_user, a.grantor, \
      CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END) AS may_be_grantor \
    FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
    LEFT JOIN pg_roles r ON r.oid = a.grantee, pg_roles me \
    WHERE d.datname = current_database() AND me.rolname = session_user AND a.privilege_type = 'CONNECT' ORDER BY 1";
/// Sessions of others. sexton's own are told by their name, which they all have. Of roles it is no member of, a role
/// that is not in pg_read_all_stats sees no kind of session; those that are no client's have no role.
const OTHERS: &str = "SELECT pid, usename::text AS role, coalesce(application_name, '')::text AS program FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL \
      AND coalesce(backend_type, 'client backend') = 'client backend' \
      AND NOT (usename = session_user AND coalesce(application_name, '') = 'sexton')";
const MYSELF: &str = "SELECT r.rolsuper AS is_super, d.datdba = r.oid AS is_owner, session_user::text AS role, r.oid::int8 AS oid, \
    pg_get_userbyid(d.datdba)::text AS owner, pg_has_role(session_user, d.datdba, \
      CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END) AS may_be_owner, \
    current_database()::text AS database FROM pg_roles r, pg_database d \
    WHERE r.rolname = session_user AND d.datname = current_database()";

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
    oid: i64,
    is_me: bool,
    is_super: bool,
    may_grant: bool,
    /// Who has let it in, where that was not the owner and sexton may take that role.
    by: Option<String>,
}

async fn grantees(session: &mut PgConnection) -> Result<Vec<Grantee>, StepError> {
    let rows = sqlx::query(MAY_CONNECT).fetch_all(session).await.map_err(sql)?;
    let one = |row: &sqlx::postgres::PgRow| -> Result<Grantee, sqlx::Error> {
        let (role, oid, is_me) = (row.try_get("role")?, row.try_get("oid")?, row.try_get("is_me")?);
        let (is_super, may_grant) = (row.try_get("is_super")?, row.try_get("is_grantable")?);
        let by = if row.try_get("may_be_grantor")? { Some(row.try_get("grantor")?) } else { None };
        Ok(Grantee { role, oid, is_me, is_super, may_grant, by })
    };
    rows.iter().map(one).collect::<Result<_, _>>().map_err(sql)
}

/// A role that may connect, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Kept {
    role: String,
    /// By which it is found under another name; what an older version kept has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oid: Option<i64>,
    /// WITH GRANT OPTION.
    may_grant: bool,
}

/// What is kept of a database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Access {
    connect: Vec<Kept>,
    /// sexton's own role.
    sexton: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sexton_oid: Option<i64>,
}

impl Access {
    /// Whether sexton's own role stood in the list.
    fn has_sexton(&self) -> bool {
        self.connect.iter().any(|one| one.role == self.sexton)
    }

    /// What a kept role is called now; `None` when it is gone. One of its former name counts only where it is not another one
    /// that was kept.
    async fn name_now(
        &self,
        role: &str,
        oid: Option<i64>,
        session: &mut PgConnection,
    ) -> Result<Option<String>, StepError> {
        const NAME: &str = "SELECT rolname::text FROM pg_roles \
            WHERE oid::int8 = $1 OR rolname = $2 AND oid::int8 <> ALL ($3) \
            ORDER BY coalesce(oid::int8 = $1, false) DESC LIMIT 1";
        if role.is_empty() {
            return Ok(Some(String::new()));
        }
        let others: Vec<i64> = self.connect.iter().filter_map(|one| one.oid).filter(|one| Some(*one) != oid).collect();
        sqlx::query_scalar(NAME).bind(oid).bind(role).bind(others).fetch_optional(session).await.map_err(sql)
    }
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

/// The role that sexton logs in as, and whose the database is.
struct Myself {
    role: String,
    oid: i64,
    is_super: bool,
    is_owner: bool,
    owner: String,
    /// Whether it may take the owner's role.
    may_be_owner: bool,
    database: String,
}

async fn myself(session: &mut PgConnection) -> Result<Myself, StepError> {
    let row = sqlx::query(MYSELF).fetch_one(session).await.map_err(sql)?;
    let read = || -> Result<Myself, sqlx::Error> {
        let (role, oid, owner) = (row.try_get("role")?, row.try_get("oid")?, row.try_get("owner")?);
        let (is_super, is_owner) = (row.try_get("is_super")?, row.try_get("is_owner")?);
        let may_be_owner = row.try_get("may_be_owner")?;
        Ok(Myself { role, oid, is_super, is_owner, owner, may_be_owner, database: row.try_get("database")? })
    };
    read().map_err(sql)
}

/// That a fence would hold: the role is not the one it is to keep out.
async fn examine(session: &mut PgConnection) -> Result<Myself, StepError> {
    let me = myself(session).await?;
    if me.is_owner && !me.is_super {
        let (role, database) = (&me.role, &me.database);
        let message =
            format!("database `{database}` cannot be fenced by its owner `{role}`, as which Temporal logs in");
        let hint =
            format!("give sexton a role of its own that is a member of it: GRANT {} TO sexton", quote_identifier(role));
        return Err(StepError::Failed(Failure::new(Kind::Refused, message).with_hint(hint)));
    }
    Ok(me)
}

/// Has the statements behind it done as a role; until the transaction ends.
fn acting_as(role: &str) -> String {
    format!("SET LOCAL ROLE {}", quote_identifier(role))
}

impl Myself {
    /// Statements on the access list are the owner's. A role that may itself let others in would do them in its own name, and
    /// could take nothing back that the owner has given (PostgreSQL's `select_best_grantor`).
    fn as_owner(&self) -> Option<String> {
        self.may_be_owner.then(|| acting_as(&self.owner))
    }
}

/// Changes the access list, wholly or not at all.
async fn change(session: &mut PgConnection, statements: &[String]) -> Result<(), StepError> {
    let mut transaction = session.begin().await.map_err(sql)?;
    for statement in statements {
        execute(&mut transaction, statement.clone()).await?;
    }
    transaction.commit().await.map_err(sql)
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
            for one in all.map(|one| Kept { role: one.role, oid: Some(one.oid), may_grant: one.may_grant }) {
                match roles.iter_mut().find(|kept| kept.role == one.role) {
                    Some(kept) => kept.may_grant |= one.may_grant,
                    None => roles.push(one),
                }
            }
            let me = myself(session).await?;
            let access = Access { connect: roles, sexton: me.role, sexton_oid: Some(me.oid) };
            kept.insert(database.to_string(), json!(access));
        }
        Ok(Value::Object(kept))
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let mut ended = 0;
        for database in each(&self.databases, hands) {
            let name = quote_identifier(hands.world.source.name(database)?);
            let cancel = hands.ctx.cancel.clone();
            let session = hands.session(Server::Source, database).await?;
            let me = examine(session).await?;
            let myself = quote_identifier(&me.role);
            let all = grantees(session).await?;
            let open = || all.iter().filter(|one| !one.is_me && !one.is_super);
            let out = |one: &Grantee| format!("REVOKE CONNECT ON DATABASE {name} FROM {} CASCADE", role(&one.role));
            let mut statements = Vec::new();
            // Only who has given it takes it back. CASCADE passes over what a member of the owner's role has given: that one never
            // loses the right to.
            for (one, by) in open().filter_map(|one| Some((one, one.by.as_ref()?))) {
                statements.extend([acting_as(by), out(one)]);
            }
            statements.extend(me.as_owner());
            // First, so that there is no instant in which sexton itself is outside.
            statements.push(format!("GRANT CONNECT ON DATABASE {name} TO {myself}"));
            if all.iter().any(|one| one.is_me && one.may_grant) {
                statements.push(format!("REVOKE GRANT OPTION FOR CONNECT ON DATABASE {name} FROM {myself} CASCADE"));
            }
            statements.extend(open().map(out));
            change(session, &statements).await?;
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
        let mut gone = Vec::new();
        for database in each(&self.databases, hands) {
            let name = quote_identifier(hands.world.source.name(database)?);
            let session = hands.session(Server::Source, database).await?;
            let Some(kept) = kept.get(database.to_string()) else { continue };
            let access: Access = super::kept(kept)?;
            let mut statements: Vec<String> = myself(session).await?.as_owner().into_iter().collect();
            for one in &access.connect {
                let Some(now) = access.name_now(&one.role, one.oid, session).await? else {
                    tracing::warn!(role = one.role, "the role is gone, and is not let in again");
                    gone.push(format!("{database}: {}", one.role));
                    continue;
                };
                let option = if one.may_grant { " WITH GRANT OPTION" } else { "" };
                statements.push(format!("GRANT CONNECT ON DATABASE {name} TO {}{option}", role(&now)));
            }
            let sexton = access.name_now(&access.sexton, access.sexton_oid, session).await?;
            if let Some(sexton) = sexton.filter(|name| !name.is_empty() && !access.has_sexton()) {
                statements.push(format!("REVOKE CONNECT ON DATABASE {name} FROM {}", role(&sexton)));
            }
            change(session, &statements).await?;
        }
        if !gone.is_empty() {
            hands.told = json!({ "not_let_in_again": gone });
        }
        Ok(())
    }
}
