//! Databases that sexton makes on a server for itself, and drops again: a drill's, a rehearsal's, those of a move.
//!
//! Whose a database is, its comment says. It gets its own name last: as long as it has no comment, nothing but its name
//! could tell whose it is, and the name of its first moments, a [`draft`], is nobody else's. Who works in one holds its
//! lock, which goes with the session when the process dies.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::{MAINTENANCE, Postgres, PostgresError, quote_identifier, quote_literal};

/// What the names of sexton's own databases begin with, and what those of their drafts do.
const OWN: &str = "sexton_";
const DRAFTS: &str = "sexton_new_";

/// How often a database is dropped that somebody is in, and how long is waited in between.
const DROPS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// What the database of this name is called until it has its comment.
#[must_use]
pub fn draft(name: &str) -> String {
    format!("{DRAFTS}{}", name.strip_prefix(OWN).unwrap_or(name))
}

/// What a draft is to be called; any other name as it is.
#[must_use]
pub fn becomes(name: &str) -> String {
    name.strip_prefix(DRAFTS).map_or_else(|| name.to_owned(), |rest| format!("{OWN}{rest}"))
}

/// What a new database is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewDatabase<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its name until it has its comment; see [`draft`].
    pub draft: &'a str,
    /// Its comment, which says whose it is.
    pub comment: &'a str,
    /// The encoding; without it UTF8.
    pub encoding: Option<&'a str>,
    /// The role it belongs to; without it the session's.
    pub owner: Option<&'a str>,
}

/// A session that makes, marks, locks and drops databases.
#[derive(Debug)]
pub struct Databases {
    postgres: Postgres,
    session: PgConnection,
}

impl Databases {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached, or its pooler gives a session that others share.
    pub async fn open(postgres: &Postgres) -> Result<Self, PostgresError> {
        Ok(Self { postgres: postgres.clone(), session: postgres.connect_held(MAINTENANCE).await? })
    }

    /// The comment of a database: `None` when there is no such database, an empty text when it has none.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn comment(&mut self, name: &str) -> Result<Option<String>, PostgresError> {
        const SAID: &str =
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = $1";
        let said = sqlx::query_scalar(SAID).bind(name).fetch_optional(&mut self.session).await;
        said.map_err(|error| self.failed(&format!("looking for database `{name}`"), error))
    }

    /// The databases whose names begin so, with their comments.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn named(&mut self, prefix: &str) -> Result<Vec<(String, String)>, PostgresError> {
        const LISTED: &str = "SELECT datname::text, coalesce(shobj_description(oid, 'pg_database'), '') \
            FROM pg_database WHERE starts_with(datname::text, $1) ORDER BY 1";
        let listed = sqlx::query(LISTED).bind(prefix).fetch_all(&mut self.session).await;
        let read = listed.and_then(|rows| rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect());
        read.map_err(|error| self.failed(&format!("looking for databases `{prefix}…`"), error))
    }

    /// Makes an empty database with a comment.
    ///
    /// # Errors
    /// When the role may not, or one of the name is there; a draft may be left then.
    pub async fn create(&mut self, new: NewDatabase<'_>) -> Result<(), PostgresError> {
        const USUAL: &str = "SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = 'template0'";
        let doing = format!("making the database `{}`", new.name);
        let usual: Result<String, _> = sqlx::query_scalar(USUAL).fetch_one(&mut self.session).await;
        let usual = usual.map_err(|error| self.failed(&doing, error))?;
        let form = match new.encoding {
            None => " ENCODING 'UTF8'".to_owned(),
            Some(encoding) if encoding == usual => String::new(),
            // A server's own locale may not go with another encoding; C goes with all.
            Some(encoding) => format!(" ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'", quote_literal(encoding)),
        };
        let owner = new.owner.map(|role| format!(" OWNER {}", quote_identifier(role))).unwrap_or_default();
        let (draft, name) = (quote_identifier(new.draft), quote_identifier(new.name));
        for statement in [
            format!("CREATE DATABASE {draft} TEMPLATE template0{form}{owner}"),
            format!("COMMENT ON DATABASE {draft} IS {}", quote_literal(new.comment)),
            format!("ALTER DATABASE {draft} RENAME TO {name}"),
        ] {
            self.execute(&doing, statement).await.map_err(|error| match error {
                PostgresError::InsufficientPrivilege { host, role, .. } => {
                    PostgresError::NoCreate { host, database: new.name.to_owned(), role }
                }
                error => error,
            })?;
        }
        Ok(())
    }

    /// Sets a database's comment.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn say(&mut self, name: &str, comment: &str) -> Result<(), PostgresError> {
        let statement = format!("COMMENT ON DATABASE {} IS {}", quote_identifier(name), quote_literal(comment));
        self.execute(&format!("setting the comment of the database `{name}`"), statement).await
    }

    /// Drops a database when its comment is its maker's, looked at right before, or when it is a draft without a comment.
    /// FORCE ends what a killed process's sessions may still be busy with. Whether it was there and the maker's.
    ///
    /// # Errors
    /// When it cannot be dropped.
    pub async fn drop_own(&mut self, name: &str, is_own: impl FnOnce(&str) -> bool) -> Result<bool, PostgresError> {
        let Some(said) = self.comment(name).await? else { return Ok(false) };
        if !(is_own(&said) || name.starts_with(DRAFTS) && said.is_empty()) {
            return Ok(false);
        }
        let (doing, drop) =
            (format!("dropping the database `{name}`"), format!("DROP DATABASE IF EXISTS {}", quote_identifier(name)));
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.execute(&doing, format!("{drop} WITH (FORCE)")).await {
                // Only a superuser may end an autovacuum worker so. Without FORCE the server ends it by itself.
                Err(PostgresError::InsufficientPrivilege { .. }) => {}
                dropped => return dropped.map(|()| true),
            }
            match self.execute(&doing, drop.clone()).await {
                // Somebody is in it still, or again.
                Err(error) if error.sqlstate().as_deref() == Some("55006") && attempt < DROPS => {}
                dropped => return dropped.map(|()| true),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes the lock of a database of this name, there or not, which its draft shares; `false` when another session has it.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn lock(&mut self, name: &str) -> Result<bool, PostgresError> {
        let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key(name));
        let asked = asked.fetch_one(&mut self.session).await;
        asked.map_err(|error| self.failed(&format!("taking the lock of the database `{name}`"), error))
    }

    /// Gives a lock back.
    ///
    /// # Errors
    /// When the query fails; the lock goes with the session then.
    pub async fn unlock(&mut self, name: &str) -> Result<(), PostgresError> {
        let done = sqlx::query("SELECT pg_advisory_unlock($1)").bind(key(name)).execute(&mut self.session).await;
        done.map(drop).map_err(|error| self.failed(&format!("giving back the lock of the database `{name}`"), error))
    }

    /// The session, for a question to the server itself.
    pub const fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Ends the session, and with it its locks.
    pub async fn close(self) {
        let _ = self.session.close().await;
    }

    async fn execute(&mut self, doing: &str, statement: String) -> Result<(), PostgresError> {
        let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut self.session).await;
        done.map(drop).map_err(|error| self.failed(doing, error))
    }

    fn failed(&self, doing: &str, error: sqlx::Error) -> PostgresError {
        self.postgres.error(MAINTENANCE, doing, error)
    }
}

fn key(name: &str) -> i64 {
    blake3::hash(becomes(name).as_bytes()).as_bytes().first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_has_the_lock_of_what_it_becomes() {
        assert_eq!(draft("sexton_drill_1"), "sexton_new_drill_1");
        assert_eq!(
            (becomes("sexton_new_drill_1"), becomes("sexton_drill_1")),
            ("sexton_drill_1".into(), "sexton_drill_1".into())
        );
        assert_eq!((draft("0a1b"), becomes("theirs")), ("sexton_new_0a1b".into(), "theirs".into()));
        assert_eq!(key("sexton_new_drill_1"), key("sexton_drill_1"));
    }
}
