//! A site from which a database is moved: two servers, roles of its own, and the commands that stop, start and switch
//! whatever plays Temporal. What they did stands in a log.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::postgres::{Role, Scratch, Server};
use crate::support::site::{Said, Site};
use crate::support::{stack, suffix};

/// Two servers and a site between them.
pub(crate) struct Move {
    pub(crate) source: Scratch,
    pub(crate) ledger: Scratch,
    /// The database's name on the target.
    pub(crate) target: String,
    pub(crate) site: Site,
    roles: [Role; 2],
}

/// A role of sexton's that may do what Temporal's role may.
fn role(server: Server) -> Role {
    let role = Role::new(server);
    server.psql("postgres", &format!("GRANT temporal, pg_read_all_data TO {0}; ALTER ROLE {0} CREATEDB", role.name));
    role
}

impl Move {
    /// A move of a database that `temporal` owns; `address` is what is asked for its health.
    pub(crate) fn new(source: Scratch, address: &str) -> Self {
        let (here, there) = (role(Server::Pg15), role(Server::Pg17));
        let ledger = Scratch::new("ledger");
        ledger.psql(&format!("GRANT ALL ON SCHEMA public TO {}", here.name));
        let target = format!("it_target_{}", suffix());
        let get = |name: &str| stack().get(name).to_owned();
        let config = format!(
            "postgres: {{host: {}, port: {}, user: {}, password: {{env: HERE}}, databases: {{main: {}}}}}\n\
             target: {{host: {}, port: {}, user: {}, password: {{env: THERE}}, role: temporal, databases: {{main: {target}}}}}\n\
             temporal: {{address: '{address}'}}\nledger: {{database: {}}}\nstore: {{directory: store}}\n\
             migrations: {{recipes: recipes, parameters: {{move-database: &commands {{stop: ./stop, start: ./start, switch: ./switch there, switch_back: ./switch here}}, move-database-live: *commands}}}}\n",
            get("PG15_HOST"),
            get("PG15_PORT"),
            here.name,
            source.name,
            get("PG17_HOST"),
            get("PG17_PORT"),
            there.name,
            ledger.name,
        );
        let site = Site::new(&config).policy("backup", "{}").env("HERE", &here.password).env("THERE", &there.password);
        std::fs::create_dir(site.path().join("recipes")).unwrap();
        site.run(&["ledger", "init"]).expect(0);
        let this = Self { source, ledger, target, site, roles: [here, there] };
        this.command("switch", "echo $1 >place");
        std::fs::write(this.site.path().join("place"), "here\n").unwrap();
        this
    }

    /// Writes a command, which logs that it was called.
    pub(crate) fn command(&self, name: &str, body: &str) {
        let path = self.site.path().join(name);
        let text = format!("#!/bin/bash\nset -e\ncd \"$(dirname \"$0\")\"\necho {name} $* >>log\n{body}\n");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The body of a command that writes to the target, as a server does that serves there.
    pub(crate) fn writing(&self) -> String {
        format!(
            "[ $(cat place) = here ] || PGPASSWORD=$SEXTON_TARGET_PASSWORD {}/psql -Xq -h $SEXTON_TARGET_HOST -p $SEXTON_TARGET_PORT \
             -U $SEXTON_TARGET_USER -d $SEXTON_TARGET_DATABASE \
             -c \"SET ROLE temporal; UPDATE executions SET next_event_id = next_event_id + 1 WHERE workflow_id = 'w7'\"",
            stack().get("PG17_BIN")
        )
    }

    /// What was called so far.
    pub(crate) fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.site.path().join("log")).unwrap_or_default();
        log.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Where Temporal is pointed at.
    pub(crate) fn place(&self) -> String {
        std::fs::read_to_string(self.site.path().join("place")).unwrap().trim().to_owned()
    }

    /// A recipe that takes the place of the one that comes with sexton.
    pub(crate) fn recipe(&self, change: impl Fn(String) -> String) {
        let built_in = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("migrations/recipes/move-database.yaml");
        let text = change(std::fs::read_to_string(built_in).unwrap());
        std::fs::write(self.site.path().join("recipes/move-database.yaml"), text).unwrap();
    }

    pub(crate) fn approve(&self) {
        self.site.run(&["migrate", "approve", "move-database", "--by", "Ada"]).expect(0);
    }

    pub(crate) fn run(&self) -> Said {
        self.site.run(&["migrate", "run", "move-database", "--json", "-q"])
    }

    /// The role of sexton's on the source.
    pub(crate) fn role(&self) -> &str {
        &self.roles[0].name
    }

    /// Those of its roles.
    pub(crate) fn passwords(&self) -> [String; 2] {
        self.roles.each_ref().map(|role| role.password.clone())
    }

    /// The names of its roles on the source's server and on the target's.
    pub(crate) fn roles(&self) -> [&str; 2] {
        self.roles.each_ref().map(|role| role.name.as_str())
    }

    /// The source's access list, and who may connect.
    pub(crate) fn access(&self) -> String {
        let query =
            format!("SELECT string_agg(format('%s %s %s', a.grantee, a.privilege_type, a.is_grantable), ', ' ORDER BY a.grantee, a.privilege_type)
             FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = '{}'", self.source.name);
        Server::Pg15.psql("postgres", &query)
    }

    /// Whether Temporal's role gets into the source.
    pub(crate) fn lets_temporal_in(&self) -> bool {
        let mut psql = Server::Pg15.tool("psql", &self.source.name);
        psql.env("PGUSER", "temporal").env("PGPASSWORD", stack().get("TEMPORAL_DB_PASSWORD"));
        psql.args(["-Xqc", "SELECT 1"]).output().unwrap().status.success()
    }

    /// Whether the target has the database.
    pub(crate) fn has_target(&self) -> bool {
        let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", self.target);
        Server::Pg17.psql("postgres", &query) == "1"
    }
}

impl Drop for Move {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.target);
        let _ = Server::Pg17.try_psql("postgres", &drop);
        // The roles have privileges on these.
        for role in &self.roles {
            for (server, database) in [(Server::Pg15, &self.ledger.name), (Server::Pg15, &self.source.name)] {
                let _ = server.try_psql(database, &format!("DROP OWNED BY {}", role.name));
            }
        }
    }
}
