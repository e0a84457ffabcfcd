//! The section `http:`: who could sign in, as whom, and from where.

use super::{Case, GOOD, Table};
use crate::support::site::Site;

/// Long enough for a token.
const OTHER: &str = "another-token-of-the-test-5527";

/// The good configuration with this under `http:`.
fn http(name: &'static str, text: &str) -> Case {
    let site = Site::new(&format!("{GOOD}http:\n{text}")).env("IT_TOKEN", OTHER).env("IT_SHORT", "only-15-charact");
    Case::new(name, site.env("IT_SPACE", "a token with spaces in it"), "run")
}

/// Verbs that serve nothing, where neither a token nor a certificate is there.
#[test]
fn who_serves_nothing_needs_no_token() {
    let text =
        "  tokens: [{name: ops, role: run, token: {env: IT_NOT_SET}}]\n  tls: {certificate: gone.pem, key: gone.key}\n";
    let verb = |verb: &'static str| Case { args: verb.to_owned(), ..http(verb, text) };
    let store = |name: &'static str| {
        let site = Site::new(&format!("{GOOD}store:\n  directory: store\nhttp:\n{text}")).policy("backup", "{}");
        Case::new(name, site, name)
    };
    let unreachable = "\
error: the ledger: PostgreSQL at 127.0.0.1:1 cannot be reached: Connection refused
  hint: check that the server runs, that 127.0.0.1:1 is its address and that no network policy is in the way";
    Table::default()
        .case(verb("status").says(1, unreachable))
        .case(verb("ledger init").says(1, unreachable))
        .case(verb("once audit").says(1, unreachable))
        .case(store("once backup").says(1, unreachable))
        .case(store("backup list").says(0, "").prints("no backups").without_hint())
        .case(
            Case {
                site: http("run", text.lines().next().unwrap())
                    .site
                    .policy("schedule", "jobs: {audit: {cron: '0 1 * * *'}}"),
                ..verb("run")
            }
            .says(
                78,
                "\
error: sexton.yaml:10:42: the environment variable IT_NOT_SET is not set
  hint: set it before sexton starts; in Kubernetes through env.valueFrom.secretKeyRef",
            ),
        )
        .case(
            Case {
                args: "status".to_owned(),
                ..http("a mistake", "  tokens: [{name: 'o p s', role: run, token: {env: IT_NOT_SET}}]\n")
            }
            .says(
                78,
                "\
error: sexton.yaml:10:19: this is not a name
  hint: write letters, digits and `-_.@`, at most 100",
            ),
        )
        .check();
}

const TOKEN: &str = "  tokens: [{name: ops, role: run, token: {env: IT_TOKEN}}]\n";

#[test]
fn the_section() {
    let tokens = |name, text: &str| http(name, &format!("  tokens:\n{text}"));
    let proxy = |name, text: &str| http(name, &format!("  proxy: {text}\n"));
    let beside = |name, text: &str| http(name, &format!("{TOKEN}{text}"));
    Table::default()
        .case(http("nobody could sign in", "  listen: 127.0.0.1:8080\n").says(78, "\
error: sexton.yaml:10:3: nobody could sign in: there is neither a token nor a proxy that signs people in
  hint: add `tokens: [{name: ops, role: approve, token: {env: SEXTON_TOKEN_OPS}}]`"))
        .case(beside("not an address", "  listen: localhost\n").says(78, "\
error: sexton.yaml:11:11: this is not an address to listen on
  hint: write an address and a port: `0.0.0.0:8080`, `[::]:8080`"))
        .case(beside("no session", "  session: 0s\n").says(78, "\
error: sexton.yaml:11:3: `http.session` is zero
  hint: write for example `12h`"))
        .case(beside("not a public address", "  public_url: sexton.example.com\n").says(78, "\
error: sexton.yaml:11:15: this is not an http or https address
  hint: write for example `https://sexton.example.com`"))
        .case(beside("an unknown key", "  adress: 127.0.0.1:8080\n").says(78, "\
error: sexton.yaml:11:3: unknown key `adress`
  hint: known here: listen, public_url, tls, tokens, proxy, trusted_proxies, public_metrics, session"))
        .case(beside("no certificate", "  tls: {certificate: gone.pem, key: gone.key}\n").says(78, "\
error: sexton.yaml:11:22: gone.pem cannot be read: No such file or directory
  hint: check the path and that the user that runs sexton may read it"))
        .case(tokens("too short", "    - {name: ops, role: run, token: {env: IT_SHORT}}\n").says(78, "\
error: sexton.yaml:11:37: the token of `ops` has fewer than 16 characters
  hint: make one with `openssl rand -hex 24`"))
        .case(tokens("with spaces", "    - {name: ops, role: run, token: {env: IT_SPACE}}\n").says(78, "\
error: sexton.yaml:11:37: the token of `ops` has characters that a header cannot carry
  hint: make one with `openssl rand -hex 24`"))
        .case(tokens("no name", "    - {name: 'o p s', role: run, token: {env: IT_TOKEN}}\n").says(78, "\
error: sexton.yaml:11:14: this is not a name
  hint: write letters, digits and `-_.@`, at most 100"))
        .case(tokens("not a role", "    - {name: ops, role: root, token: {env: IT_TOKEN}}\n").says(78, "\
error: sexton.yaml:11:25: `root` is not known here
  hint: write one of: read, run, approve"))
        .case(tokens("not set", "    - {name: ops, role: run, token: {env: IT_NOT_SET}}\n").says(78, "\
error: sexton.yaml:11:37: the environment variable IT_NOT_SET is not set
  hint: set it before sexton starts; in Kubernetes through env.valueFrom.secretKeyRef"))
        .case(tokens("written out", "    - {name: ops, role: run, token: another-token-of-the-test-5527}\n").says(78, "\
error: sexton.yaml:11:37: a secret is never written here
  hint: write {env: NAME} or {file: PATH}"))
        .case(
            tokens(
                "two of one name",
                "    - {name: ops, role: run, token: {env: IT_TOKEN}}\n    - {name: ops, role: read, token: {env: IT_SECRET}}\n",
            )
            .says(78, "\
error: sexton.yaml:12:14: two tokens are called `ops`
  hint: give each its own name"),
        )
        .case(
            tokens(
                "one for two",
                "    - {name: ops, role: run, token: {env: IT_TOKEN}}\n    - {name: ada, role: read, token: {env: IT_TOKEN}}\n",
            )
            .says(78, "\
error: sexton.yaml:12:38: the token of `ada` is that of `ops` too: who did what could not be told
  hint: make one with `openssl rand -hex 24`"),
        )
        .case(beside("everybody is a proxy", "  trusted_proxies: [0.0.0.0/0]\n").says(78, "\
error: sexton.yaml:11:20: 0.0.0.0/0 is everybody: anyone could say to come from anywhere
  hint: write the networks that the proxy's pods are in"))
        .case(beside("no network of proxies", "  trusted_proxies: [ingress-nginx]\n").says(78, "\
error: sexton.yaml:11:21: this is neither a network nor an address
  hint: write for example `10.0.0.0/8` or `10.0.0.5`"))
        .case(beside("one address is a network, and not all", "  trusted_proxies: [10.0.0.5, 0.0.0.0/0]\n").says(78, "\
error: sexton.yaml:11:20: 0.0.0.0/0 is everybody: anyone could say to come from anywhere
  hint: write the networks that the proxy's pods are in"))
        .case(beside("neither yes nor no", "  public_metrics: maybe\n").says(78, "\
error: sexton.yaml:11:19: `true` or `false` is expected here
  hint: write one of them"))
        .case(beside("TLS without anything", "  tls:\n").says(78, "\
error: sexton.yaml:11:6: a value is missing here
  hint: write one after the colon, or remove the key"))
        .case(beside("no authority", "  tls: {certificate: a.pem, key: b.pem, client_ca: }\n").says(78, "\
error: sexton.yaml:11:50: a value is missing here
  hint: write one after the colon, or remove the key"))
        .case(http("nothing at all", "").says(78, "\
error: sexton.yaml:9:5: a value is missing here
  hint: write one after the colon, or remove the key"))
        .case(proxy("everybody is trusted", "{trusted: [0.0.0.0/0], others: read}").says(78, "\
error: sexton.yaml:10:20: 0.0.0.0/0 is everybody: anyone could write the header and be anybody
  hint: write the networks that the proxy's pods are in"))
        .case(proxy("everybody of IPv6 too", "{trusted: [10.0.0.0/8, '::/0'], others: read}").says(78, "\
error: sexton.yaml:10:20: ::/0 is everybody: anyone could write the header and be anybody
  hint: write the networks that the proxy's pods are in"))
        .case(proxy("nobody is trusted", "{trusted: [], others: read}").says(78, "\
error: sexton.yaml:10:20: no address of the proxy is trusted, so that nobody could sign in through it
  hint: write its networks: `trusted: [10.0.0.0/8]`"))
        .case(proxy("not a network", "{trusted: [10.0.0.0/33], others: read}").says(78, "\
error: sexton.yaml:10:21: this is neither a network nor an address
  hint: write for example `10.0.0.0/8` or `10.0.0.5`"))
        .case(proxy("nobody may anything", "{trusted: [10.0.0.0/8]}").says(78, "\
error: sexton.yaml:10:3: http.proxy: nobody behind the proxy may do anything
  hint: add `others: read`, or `roles: {\"ada@example.com\": approve}`"))
        .case(proxy("a header of its own", "{trusted: [10.0.0.0/8], user_header: Cookie, others: read}").says(78, "\
error: sexton.yaml:10:47: this header cannot tell a name
  hint: write for example `X-Forwarded-User`"))
        .case(proxy("no header", "{trusted: [10.0.0.0/8], user_header: 'X User', others: read}").says(78, "\
error: sexton.yaml:10:47: this header cannot tell a name
  hint: write for example `X-Forwarded-User`"))
        .case(proxy("not a role either", "{trusted: [10.0.0.0/8], others: everything}").says(78, "\
error: sexton.yaml:10:42: `everything` is not known here
  hint: write one of: read, run, approve"))
        .check();
}
