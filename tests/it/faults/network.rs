//! PostgreSQL and the S3 store behind a network that breaks for a while.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sexton::backup::store::{Settings, open};
use sexton::clients::postgres::Postgres;
use sexton::failure::{Explain, Kind, chain};

use super::*;
use crate::kills::Seed;
use crate::support::postgres::Server;
use crate::support::proxy::Proxy;
use crate::support::s3::Bucket;
use crate::support::stack;

/// A row that is an object of several parts.
const LARGE: &str = "CREATE TABLE IF NOT EXISTS large (a bytea); TRUNCATE large;
    ALTER TABLE large ALTER a SET STORAGE EXTERNAL;
    INSERT INTO large SELECT string_agg(sha512((random()::text || n)::bytea), '') FROM generate_series(1, 280000) n;";

/// What happens to a network for a while.
#[derive(Debug, Clone)]
struct Trouble {
    postgres: bool,
    kind: &'static str,
    stream: &'static str,
    attributes: Value,
    begins: Duration,
    lasts: Duration,
}

impl Trouble {
    fn draw(random: &mut Seed, whole: Duration) -> Self {
        let (kind, attributes) = match random.below(6) {
            0 => ("reset_peer", json!({"timeout": random.below(50)})),
            1 => ("latency", json!({"latency": 50 + random.below(200), "jitter": 50})),
            2 => ("bandwidth", json!({"rate": 100 + random.below(2000)})),
            3 => ("timeout", json!({"timeout": 1 + random.below(400)})),
            4 => ("limit_data", json!({"bytes": 1 + random.below(3 << 20)})),
            _ => ("down", Value::Null),
        };
        Self {
            postgres: random.below(2) == 0,
            kind,
            stream: if random.below(2) == 0 { "upstream" } else { "downstream" },
            attributes,
            begins: random.part_of(whole),
            lasts: Duration::from_millis(100 + random.below(1500)),
        }
    }

    async fn happen(self, proxies: Arc<(Proxy, Proxy)>) {
        tokio::time::sleep(self.begins).await;
        let (kind, stream, attributes) = (self.kind, self.stream, self.attributes.clone());
        let change = |begins: bool| {
            let (proxies, attributes) = (Arc::clone(&proxies), attributes.clone());
            tokio::task::spawn_blocking(move || {
                let proxy = if self.postgres { &proxies.0 } else { &proxies.1 };
                match (kind, begins) {
                    ("down", begins) => proxy.enable(!begins),
                    (_, true) => proxy.add(kind, stream, attributes),
                    ("timeout", false) => {
                        // Its connections end before it does: they would go on with a part of the bytes missing.
                        proxy.enable(false);
                        proxy.remove(kind);
                        proxy.enable(true);
                    }
                    (_, false) => proxy.remove(kind),
                }
            })
        };
        change(true).await.unwrap();
        tokio::time::sleep(self.lasts).await;
        change(false).await.unwrap();
    }
}

fn assert_says(error: &BackupError) {
    let known = matches!(error, BackupError::Postgres(_) | BackupError::Store(_) | BackupError::PgDump { .. });
    assert!(known && error.kind() == Kind::Failed && !chain(error).is_empty(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_breaks_makes_no_false_backup() {
    let bucket = Bucket::new().await;
    let address =
        |server: &str| format!("{}:{}", stack().get(&format!("{server}_HOST")), stack().get(&format!("{server}_PORT")));
    let endpoint = stack().get("S3_ENDPOINT").strip_prefix("http://").unwrap();
    let proxies = Arc::new((Proxy::new(&address("PG15")), Proxy::new(endpoint)));
    let mut settings = bucket.settings("net");
    if let Settings::S3 { endpoint, .. } = &mut settings {
        *endpoint = Some(format!("http://{}", proxies.1.address));
    }
    let (direct, through) = (open(&bucket.settings("net")).await.unwrap(), open(&settings).await.unwrap());
    let (host, port) = proxies.0.address.split_once(':').unwrap();
    let mut settings = Server::Pg15.settings();
    (settings.host, settings.port) = (host.to_owned(), port.parse().unwrap());
    let postgres = Postgres::new(settings);

    let source = Scratch::new("network");
    source.psql(ROWS);
    source.psql(LARGE);
    let mut random = Seed::new("a network that breaks");
    let mut setting = Setting::with_policy(source, through.clone(), POLICY);
    let clock = Instant::now();
    let outcome = setting.backup_as(&postgres, &Context::plain()).await;
    let whole = clock.elapsed();
    let mut kept = Kept::default();
    setting.store = direct.clone();
    kept.judge(&setting, outcome.as_ref()).await.unwrap();
    let mut failed = 0;
    for round in 0..rounds(2) {
        setting.source.psql(CHURN);
        if round % 2 == 0 {
            setting.source.psql(LARGE);
        }
        let trouble = Trouble::draw(&mut random, whole);
        let before = bucket.unfinished().await;
        let happens = tokio::spawn(trouble.clone().happen(Arc::clone(&proxies)));
        setting.store = through.clone();
        let outcome = setting.backup_as(&postgres, &Context::plain()).await;
        setting.store = direct.clone();
        happens.await.unwrap();
        if let Err(error) = &outcome {
            failed += 1;
            assert_says(error);
        }
        println!("{trouble:?}: {:?}", outcome.as_ref().map(|report| &report.id).map_err(|error| chain(error)));
        kept.judge(&setting, outcome.as_ref()).await;
        // The abort of an upload goes its own way, and comes through unless the store is what cannot be reached.
        if trouble.postgres {
            bucket.settles_at(before).await;
        }

        let Some((id, dump)) = kept.0.iter().next_back() else { continue };
        let manifest = show(&*direct, id.as_str()).await.unwrap();
        let trouble = Trouble::draw(&mut random, whole);
        let happens = tokio::spawn(trouble.clone().happen(Arc::clone(&proxies)));
        setting.store = through.clone();
        let target = Scratch::new("network_back");
        let outcome = setting.restore_as(&manifest, postgres.clone(), &target).await;
        setting.store = direct.clone();
        happens.await.unwrap();
        println!("{trouble:?}: {:?}", outcome.as_ref().map(|report| report.rows).map_err(|error| chain(error)));
        match outcome {
            Err(error) => {
                failed += 1;
                assert_says(&error);
            }
            Ok(report) => match report.verdict() {
                Ok(()) => assert_equal_dumps(dump, &target.dump()),
                Err(error) => assert_eq!(error.kind(), Kind::CouldNotVerify, "{error}"),
            },
        }
    }
    setting.source.psql(CHURN);
    setting.store = through;
    let last = setting.backup_as(&postgres, &Context::plain()).await;
    setting.store = direct;
    kept.judge(&setting, last.as_ref()).await.unwrap();
    // An upload in parts that was begun by a request whose answer was lost has no name here; a prune finds it.
    let left = bucket.unfinished().await;
    prune(&*setting.store, 1000).await.unwrap();
    assert_eq!(bucket.unfinished().await, 0, "of {left} uploads that nobody will complete");
    kept.still_there(&setting, random.next()).await;
    println!("{failed} of {} runs failed", rounds(2) * 2);
    bucket.remove().await;
}
