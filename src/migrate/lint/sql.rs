//! What a statement does to a database that is in use.

use sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, ColumnDef, ColumnOption, DataType, Expr, GeneratedExpressionMode,
    ObjectType, Statement, TableConstraint,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::Rule;

/// A rule that a statement breaks, and how.
pub(super) type Broken = (Rule, String);

/// What the parser does not know, or tells too little of, by the first word.
const BY_WORD: [(&str, Rule, &str); 4] = [
    ("CLUSTER", Rule::Rewrite, "it writes the table anew under ACCESS EXCLUSIVE, and nobody reads it meanwhile"),
    ("LOCK", Rule::Lock, "it holds the lock until the step ends"),
    ("TRUNCATE", Rule::DataLoss, "it empties the table"),
    ("REINDEX", Rule::Lock, "it keeps writers of the table waiting; REINDEX INDEX CONCURRENTLY does not"),
];

/// Statements that run outside of a transaction only, by their first words (PostgreSQL manual, each one's notes).
const OUTSIDE: [&[&str]; 9] = [
    &["VACUUM"],
    &["CREATE", "DATABASE"],
    &["DROP", "DATABASE"],
    &["CREATE", "TABLESPACE"],
    &["DROP", "TABLESPACE"],
    &["ALTER", "SYSTEM"],
    &["REINDEX", "DATABASE"],
    &["REINDEX", "SYSTEM"],
    &["CREATE", "SUBSCRIPTION"],
];

/// Forms of ALTER TABLE that write it anew, which the parser does not know (PostgreSQL manual, ALTER TABLE).
const REWRITES: [&[&str]; 4] =
    [&["SET", "UNLOGGED"], &["SET", "LOGGED"], &["SET", "TABLESPACE"], &["SET", "ACCESS", "METHOD"]];

/// A statement of more tokens is not examined: the parser's tree of it, as deep as it is long, would not fit the stack.
const MOST_TOKENS: usize = 4_000;

/// Reads one statement. `transaction` is whether the step runs it in one.
pub(super) fn examine(sql: &str, transaction: bool) -> Vec<Broken> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else {
        return vec![(Rule::NotParsed, "it cannot be read as SQL".to_owned())];
    };
    let tokens: Vec<Token> = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    if tokens.contains(&Token::SemiColon) {
        return vec![(Rule::Several, "each item of the list is one statement; write them as several".to_owned())];
    }
    if tokens.len() > MOST_TOKENS {
        let what = format!("it has {} words and signs, and is not examined beyond {MOST_TOKENS}", tokens.len());
        return vec![(Rule::NotParsed, what)];
    }
    let words: Vec<String> = tokens.iter().filter_map(word).collect();
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let begins = |with: &&[&str]| with.iter().copied().eq(words.iter().take(with.len()).map(String::as_str));
    let contains = |wanted: &&[&str]| words.windows(wanted.len()).any(|some| some == *wanted);
    let first = words.first().map_or("", String::as_str);
    let concurrently = tokens.windows(2).any(|pair| is_concurrently(&words, pair));
    let mut broken = Vec::new();
    if transaction && (concurrently || OUTSIDE.iter().any(begins)) {
        let what = if concurrently { "CONCURRENTLY" } else { first };
        let what = format!("{what} does not run in a transaction; write `transaction: false`");
        broken.push((Rule::Transaction, what));
    }
    if first == "SET" && (has("LOCK_TIMEOUT") || has("STATEMENT_TIMEOUT")) {
        broken.push((Rule::LockTimeout, "the step's own `lock_timeout` and `statement_timeout` say that".to_owned()));
    }
    if first == "VACUUM" && has("FULL") || first == "ALTER" && REWRITES.iter().any(contains) {
        let what = "it writes the table anew under ACCESS EXCLUSIVE, and nobody reads it meanwhile";
        broken.push((Rule::Rewrite, what.to_owned()));
    }
    if first == "REFRESH" && !concurrently {
        let what = "nobody reads the view until it is written anew; with a unique index CONCURRENTLY lets them";
        broken.push((Rule::Lock, what.to_owned()));
    }
    for (_, rule, what) in BY_WORD.iter().filter(|(begins, ..)| *begins == first) {
        if !(concurrently && first == "REINDEX") {
            broken.push((*rule, (*what).to_owned()));
        }
    }
    let is_known = BY_WORD.iter().any(|(begins, ..)| *begins == first)
        || ["VACUUM", "REFRESH"].contains(&first)
        || first == "ALTER" && REWRITES.iter().any(contains)
        || OUTSIDE.iter().any(begins);
    // Where it may stand the parser knows for some statements only.
    let rest = tokens.into_iter().filter(|token| !concurrently || word(token).as_deref() != Some("CONCURRENTLY"));
    match Parser::new(&PostgreSqlDialect {}).with_tokens(rest.collect()).parse_statements() {
        Ok(statements) => broken.extend(statements.iter().flat_map(|one| statement(one, concurrently))),
        Err(_) if is_known => {}
        Err(error) => broken.push((Rule::NotParsed, format!("the parser does not know it ({error})"))),
    }
    broken
}

/// A word without quotes, in capitals.
fn word(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
        _ => None,
    }
}

/// Whether the second of two tokens is CONCURRENTLY where it is no name.
fn is_concurrently(words: &[String], pair: &[Token]) -> bool {
    let [before, this] = pair else { return false };
    let follows = ["INDEX", "TABLE", "SCHEMA", "DATABASE", "SYSTEM", "VIEW"];
    let is_detached = words.first().is_some_and(|first| first == "ALTER") && words.iter().any(|word| word == "DETACH");
    word(this).as_deref() == Some("CONCURRENTLY")
        && word(before).is_some_and(|before| is_detached || follows.contains(&before.as_str()))
}

fn statement(statement: &Statement, concurrently: bool) -> Vec<Broken> {
    let one = |rule, what: String| vec![(rule, what)];
    match statement {
        Statement::CreateIndex(index) if !concurrently => one(
            Rule::Lock,
            format!("it keeps writers of {} waiting until the index is built; write CONCURRENTLY", index.table_name),
        ),
        Statement::Drop { object_type: ObjectType::Index, .. } if !concurrently => {
            one(Rule::Lock, "it waits for and keeps out everybody at the table; write CONCURRENTLY".to_owned())
        }
        Statement::Drop { object_type, names, cascade, .. } => {
            let mut broken = Vec::new();
            let named = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            if matches!(
                object_type,
                ObjectType::Table | ObjectType::Schema | ObjectType::Database | ObjectType::MaterializedView
            ) {
                broken.push((Rule::DataLoss, format!("what is in {named} is gone with it")));
            }
            if *cascade {
                broken.push((Rule::DataLoss, format!("CASCADE drops what depends on {named}, whatever that is")));
            }
            broken
        }
        Statement::Delete(delete) if delete.selection.is_none() => {
            one(Rule::DataLoss, "it has no WHERE: every row is deleted".to_owned())
        }
        Statement::Update(update) if update.selection.is_none() => {
            one(Rule::DataLoss, "it has no WHERE: every row is changed, in one transaction".to_owned())
        }
        Statement::AlterTable(alter) => alter.operations.iter().flat_map(altered).collect(),
        _ => Vec::new(),
    }
}

fn altered(operation: &AlterTableOperation) -> Option<Broken> {
    let scan = |what: &str| (Rule::Scan, what.to_owned());
    match operation {
        AlterTableOperation::AddColumn { column_def, .. } => added(column_def),
        AlterTableOperation::DropColumn { .. } => Some((Rule::DataLoss, "what is in the column is gone".to_owned())),
        AlterTableOperation::RenameTable { .. }
        | AlterTableOperation::RenameColumn { .. }
        | AlterTableOperation::ChangeColumn { .. } => {
            Some((Rule::Rename, "a server that runs knows only the former name".to_owned()))
        }
        AlterTableOperation::AddConstraint { constraint, not_valid: false, .. } => match constraint {
            TableConstraint::Check(_) | TableConstraint::ForeignKey(_) => Some(scan(
                "every row is looked at under a lock that keeps writers waiting; add it NOT VALID, and VALIDATE it in a \
                 step of its own",
            )),
            TableConstraint::Unique(_) | TableConstraint::PrimaryKey(_) => Some(scan(
                "its index is built under ACCESS EXCLUSIVE; CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT \
                 USING INDEX",
            )),
            _ => None,
        },
        AlterTableOperation::AlterColumn { op: AlterColumnOperation::SetNotNull, .. } => {
            Some(scan("every row is looked at under ACCESS EXCLUSIVE, unless a valid CHECK (… IS NOT NULL) proves it"))
        }
        AlterTableOperation::AlterColumn { op: AlterColumnOperation::SetDataType { .. }, .. } => {
            let what = "most changes of a type write the table anew under ACCESS EXCLUSIVE; rehearse it";
            Some((Rule::Rewrite, what.to_owned()))
        }
        _ => None,
    }
}

fn added(column: &ColumnDef) -> Option<Broken> {
    let rewrites = |what: &str| {
        Some((Rule::Rewrite, format!("{what}, which writes the table anew under ACCESS EXCLUSIVE; rehearse it")))
    };
    if let DataType::Custom(name, _) = &column.data_type
        && ["SERIAL", "BIGSERIAL", "SMALLSERIAL"].contains(&name.to_string().to_uppercase().as_str())
    {
        return rewrites("the column's default is another one for each row");
    }
    column.options.iter().find_map(|option| match &option.option {
        ColumnOption::Default(expression) if calls(expression) => {
            rewrites("the column's default may call a volatile function")
        }
        ColumnOption::Generated { generation_expr: None, .. } => rewrites("each row gets an identity"),
        ColumnOption::Generated { generation_expr_mode: Some(GeneratedExpressionMode::Virtual), .. } => None,
        ColumnOption::Generated { .. } => rewrites("the column is generated and stored"),
        ColumnOption::PrimaryKey(_) | ColumnOption::Unique(_) => {
            Some((Rule::Scan, "its index is built under ACCESS EXCLUSIVE".to_owned()))
        }
        _ => None,
    })
}

/// Whether an expression calls anything that is not known to be the same for every row. Of the known ones the server
/// makes a constant (PostgreSQL manual, ALTER TABLE, ADD COLUMN).
fn calls(expression: &Expr) -> bool {
    const STABLE: [&str; 4] = ["NOW", "CURRENT_TIMESTAMP", "CURRENT_DATE", "TRANSACTION_TIMESTAMP"];
    let text = expression.to_string();
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, &text).tokenize().unwrap_or_default();
    tokens.windows(2).any(|pair| match pair {
        [Token::Word(word), Token::LParen] => !STABLE.contains(&word.value.to_uppercase().as_str()),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_statement_does_is_told() {
        let check = |sql: &str, expect: &[Rule]| {
            let found: Vec<Rule> = examine(sql, true).into_iter().map(|(rule, _)| rule).collect();
            assert_eq!(found, expect, "{sql}");
        };
        use Rule::{DataLoss, Lock, LockTimeout, NotParsed, Rename, Rewrite, Scan, Several, Transaction};
        check("SELECT 1", &[]);
        check("CREATE TABLE made (n int PRIMARY KEY)", &[]);
        check("CREATE INDEX i ON t (n)", &[Lock]);
        check("CREATE INDEX CONCURRENTLY i ON t (n)", &[Transaction]);
        check("DROP INDEX i", &[Lock]);
        check("DROP INDEX CONCURRENTLY IF EXISTS i", &[Transaction]);
        check("REINDEX TABLE t", &[Lock]);
        check("ALTER TABLE t ADD COLUMN n int", &[]);
        check("ALTER TABLE t ADD COLUMN n int DEFAULT 5", &[]);
        check("ALTER TABLE t ADD COLUMN n timestamptz DEFAULT now()", &[]);
        check("ALTER TABLE t ADD COLUMN n float8 DEFAULT random()", &[Rewrite]);
        check("ALTER TABLE t ADD COLUMN n text DEFAULT gen_random_uuid()::text", &[Rewrite]);
        check("ALTER TABLE t ADD COLUMN n float8 DEFAULT (random())", &[Rewrite]);
        check("ALTER TABLE t ADD COLUMN n bigserial", &[Rewrite]);
        check("ALTER TABLE t ADD COLUMN n int GENERATED ALWAYS AS (m * 2) STORED", &[Rewrite]);
        check("ALTER TABLE t ADD COLUMN n int GENERATED BY DEFAULT AS IDENTITY", &[Rewrite]);
        check("ALTER TABLE t ALTER COLUMN n TYPE bigint", &[Rewrite]);
        check("ALTER TABLE t ALTER COLUMN n SET NOT NULL", &[Scan]);
        check("ALTER TABLE t ADD CONSTRAINT c CHECK (n > 0)", &[Scan]);
        check("ALTER TABLE t ADD CONSTRAINT c CHECK (n > 0) NOT VALID", &[]);
        check("ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (n) REFERENCES u (n)", &[Scan]);
        check("ALTER TABLE t ADD CONSTRAINT c UNIQUE (n)", &[Scan]);
        check("ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i", &[]);
        check("ALTER TABLE t DROP COLUMN n", &[DataLoss]);
        check("ALTER TABLE t RENAME COLUMN n TO m", &[Rename]);
        check("ALTER TABLE t RENAME TO u", &[Rename]);
        check("DROP TABLE t CASCADE", &[DataLoss, DataLoss]);
        check("TRUNCATE t", &[DataLoss]);
        check("DELETE FROM t", &[DataLoss]);
        check("DELETE FROM t WHERE n = 1", &[]);
        check("UPDATE t SET n = 1", &[DataLoss]);
        check("VACUUM (FULL, ANALYZE) t", &[Transaction, Rewrite]);
        check("CLUSTER t USING i", &[Rewrite]);
        check("LOCK TABLE t IN EXCLUSIVE MODE", &[Lock]);
        check("SELECT 1; COMMIT", &[Several]);
        check("CREATE DATABASE d", &[Transaction]);
        check("DROP DATABASE d", &[Transaction, DataLoss]);
        check("ALTER SYSTEM SET wal_level = logical", &[Transaction]);
        check("ALTER TABLE t SET UNLOGGED", &[Rewrite]);
        check("ALTER TABLE t SET TABLESPACE fast", &[Rewrite]);
        check("REFRESH MATERIALIZED VIEW v", &[Lock]);
        check("REFRESH MATERIALIZED VIEW CONCURRENTLY v", &[Transaction]);
        check("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", &[Transaction]);
        check("SELECT concurrently FROM t", &[]);
        check("ROLLBACK TO SAVEPOINT a", &[]);
        check(&format!("SELECT 1{}", " + 1".repeat(1_900)), &[]);
        check(&format!("SELECT {}", "+ 1 ".repeat(200_000)), &[NotParsed]);
        check("SET lock_timeout = 0", &[LockTimeout]);
        check("FROB THE TABLE", &[NotParsed]);
        check("SELECT 'unfinished", &[NotParsed]);
        check("SELECT \"drop\" FROM t WHERE x = 'TRUNCATE t'", &[]);
        assert!(examine("CREATE INDEX CONCURRENTLY i ON t (n)", false).is_empty());
        assert!(examine("REINDEX INDEX CONCURRENTLY i", false).is_empty());
    }
}
