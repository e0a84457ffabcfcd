//! The search engine: not there, no login, not trusted; and an index that cannot be kept in order.

use serde_json::json;

use super::{CLOSED, Case, GOOD, Table};
use crate::support::search::{Engine, Scratch};
use crate::support::site::Site;
use crate::support::stack;

/// `once visibility --dry-run` needs the search engine alone.
fn search(name: &'static str, settings: &str, policy: &str) -> Case {
    let config = format!("{GOOD}search: {{{settings}}}\n");
    Case::new(name, Site::new(&config).policy("visibility", policy), "once visibility --dry-run")
        .hide(stack().get("OPENSEARCH_URL"), "OPENSEARCH")
        .hide(stack().get("ES6_URL"), "ES6")
}

#[test]
fn connections() {
    let es6 = format!("url: '{}'", stack().get("ES6_URL"));
    let ca = format!("ca: '{}'", stack().get("ES6_CA"));
    let user = stack().get("ES6_USER");
    let postgres = format!("127.0.0.1:{}", stack().get("PG15_PORT"));
    let s3 = stack().get("S3_ENDPOINT");
    let plain_to_tls = stack().get("ES6_URL").replace("https", "http");
    let tls_to_plain = stack().get("OPENSEARCH_URL").replace("http", "https");
    Table::default()
        .case(search("down", &format!("url: 'http://{CLOSED}'"), "{}").says(1, "\
error: search engine at http://127.0.0.1:1 cannot be reached: Connection refused
  hint: check that the engine runs, that this is its address, and whether that begins with https://"))
        .case(search("host unknown", "url: 'http://search.invalid:9200'", "{}").says(1, "\
error: search engine at http://search.invalid:9200 cannot be reached: failed to lookup address information: Name or service not known
  hint: check that the engine runs, that this is its address, and whether that begins with https://"))
        .case(search("password wrong", &format!("{es6}, {ca}, basic: {{user: {user}, password: {{env: IT_SECRET}}}}"), "{}").says(1, "\
error: search engine at ES6 refuses the login (failed to authenticate user [elastic])
  hint: set or correct `basic` or `api_key` of the search connection"))
        .case(search("API key wrong", &format!("{es6}, {ca}, api_key: {{env: IT_SECRET}}"), "{}").says(1, "\
error: search engine at ES6 refuses the login (missing authentication token for REST request [/])
  hint: set or correct `basic` or `api_key` of the search connection"))
        .case(search("no login", &format!("{es6}, {ca}"), "{}").says(1, "\
error: search engine at ES6 refuses the login (missing authentication token for REST request [/])
  hint: set or correct `basic` or `api_key` of the search connection"))
        .case(search("untrusted authority", &es6, "{}").says(1, "\
error: certificate of the search engine at ES6 is not trusted: it was not signed by an authority that is trusted here
  hint: set the certificate authority that signed the engine's certificate (`ca`), and use a host name that is in it"))
        .case(search("CA file that is none", &format!("{es6}, ca: sexton.yaml"), "{}").says(78, "\
error: certificate authorities in sexton.yaml: could not find PEM certificate in input data
  hint: give a readable file with one or more PEM certificates"))
        .case(search("plaintext to TLS", &format!("url: '{plain_to_tls}'"), "{}").hide(&plain_to_tls, "ES6_PLAIN").says(1, "\
error: search engine at ES6_PLAIN cannot be reached: connection closed before message completed
  hint: check that the engine runs, that this is its address, and whether that begins with https://"))
        .case(search("TLS to plaintext", &format!("url: '{tls_to_plain}'"), "{}").hide(&tls_to_plain, "OPENSEARCH_TLS").says(1, "\
error: TLS with the search engine at OPENSEARCH_TLS fails: received corrupt message of type InvalidContentType
  hint: check whether the address should begin with http://; else let the engine offer TLS 1.3, or TLS 1.2 with an ECDHE suite and AES-GCM or ChaCha20 (`xpack.security.http.ssl.cipher_suites`; Elasticsearch 6 offers CBC suites only unless told)"))
        .case(search("PostgreSQL instead", &format!("url: 'http://{postgres}'"), "{}").says(1, "\
error: search engine at http://PG15 cannot be reached: connection closed before message completed
  hint: check that the engine runs, that this is its address, and whether that begins with https://"))
        .case(search("S3 instead", &format!("url: '{s3}'"), "{}").hide(s3, "S3").says(1, "\
error: search engine answered `GET /` with 403: a page in HTML or XML, which no search engine sends
  hint: check that the address is the search engine's own, and look at the engine's log"))
        .check();
}

#[test]
fn indices() {
    let engine = Engine::opensearch();
    let red = Scratch::new(engine.clone());
    let nowhere = json!({"index.routing.allocation.require.x": "y"});
    let create = format!("/{}?wait_for_active_shards=0", red.index(1));
    let aliases = json!({&red.alias: {"is_write_index": true}});
    engine.ok("PUT", &create, Some(json!({"settings": nowhere, "aliases": aliases})));
    let concrete = Scratch::new(engine.clone());
    concrete.create(&concrete.alias, json!({}));
    let closed = Scratch::new(engine.clone());
    closed.member(1, false);
    closed.member(2, true);
    engine.ok("POST", &format!("/{}/_close", closed.index(1)), None);
    let two = Scratch::new(engine.clone());
    two.create(&two.index(1), json!({"aliases": {&two.alias: {}}}));
    two.create(&two.index(2), json!({"aliases": {&two.alias: {}}}));
    let healthy = Scratch::new(engine.clone());
    healthy.member(1, true);
    let url = format!("url: '{}'", engine.url);
    let index = |name, scratch: &Scratch| {
        search(name, &url, &format!("index: {}\n", scratch.alias)).hide(&scratch.alias, "INDEX")
    };
    Table::default()
        .case(index("red", &red).says(
            1,
            "\
error: index `INDEX-000001` behind `INDEX` is red
  hint: find the missing shards with `GET _cluster/allocation/explain` for INDEX-000001",
        ))
        .case(index("concrete", &concrete).prints("is a plain index, not an alias").without_hint().says(0, ""))
        .case(index("closed", &closed).says(
            1,
            "\
error: index `INDEX-000001` behind `INDEX` is closed
  hint: open it (`POST INDEX-000001/_open`) or take it out of the alias",
        ))
        .case(index("no write index", &two).says(
            1,
            "\
error: alias `INDEX` has 0 write indices (none), not one
  hint: say `is_write_index` for each member with one `POST _aliases` call: true for the newest, false for the rest",
        ))
        .case(search("missing", &url, "index: it_no_such_index\n").says(
            1,
            "\
error: there is no index or alias `it_no_such_index`
  hint: set up Temporal's index first (temporal-elasticsearch-tool), or correct `index`",
        ))
        .case(
            search("driver that the engine lacks", &url, &format!("index: {}\ndriver: ilm\n", healthy.alias))
                .hide(&healthy.alias, "INDEX")
                .says(
                    1,
                    "\
error: `driver: ilm` needs index lifecycle management, which OpenSearch 3.6.0 does not have
  hint: use `driver: auto` or `driver: daemon`",
                ),
        )
        .case(
            search("plugin that the engine lacks", &url, &format!("index: {}\ndriver: ism\n", healthy.alias))
                .hide(&healthy.alias, "INDEX")
                .says(
                    1,
                    "\
error: `driver: ism` needs index state management, which OpenSearch 3.6.0 does not have
  hint: use `driver: auto` or `driver: daemon`",
                ),
        )
        .case(
            search("deletion that the engine lacks", &url, &format!("index: {}\ndeletion: engine\n", healthy.alias))
                .hide(&healthy.alias, "INDEX")
                .says(
                    1,
                    "\
error: `deletion: engine` needs index lifecycle management, which OpenSearch 3.6.0 does not have
  hint: use `deletion: gated`, or on an OpenSearch with its index management plugin `driver: ism`",
                ),
        )
        .check();
}
