//! Documents as server 1.31 writes them (`GenerateESDoc`), with a memo and custom search attributes: some 850 bytes.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sexton::clients::persistence::shard_of;
use uuid::Uuid;

use crate::engine::Engine;
use crate::go_on;

/// The namespace of every run.
pub(crate) const NAMESPACE: Uuid = Uuid::from_u128(0x0b6e_0000_0000_4000_8000_0000_0000_0001);

/// History shards.
pub(crate) const SHARDS: u32 = 4;

/// Task ids begin here, as in a shard's first range.
const FIRST_TASK: usize = 1 << 20;

const REGIONS: [&str; 3] = ["eu-central-1", "us-east-1", "ap-southeast-2"];

/// Documents in one request, and requests at one time.
const BULK: usize = 1_500;
const AT_ONCE: usize = 2;

/// A run by its number. Everything else of it follows from that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) number: usize,
    pub(crate) started: Timestamp,
    pub(crate) open: bool,
}

impl Run {
    pub(crate) fn shard(&self) -> i32 {
        shard_of(NAMESPACE, &self.workflow(), SHARDS)
    }

    pub(crate) fn workflow(&self) -> String {
        format!("order-{:08}-{}", self.number, ["eu", "us", "apac"][self.number % 3])
    }

    /// Like the server's ids: the first half grows with time, the second half is random.
    pub(crate) fn run(&self) -> Uuid {
        let spread = (self.number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Uuid::from_u64_pair(0x0199_0000_0000_7000 | ((self.number as u64) << 16), 0x8000_0000_0000_0000 | (spread >> 2))
    }

    fn version(&self) -> usize {
        FIRST_TASK + self.number
    }

    /// The two lines of a bulk request.
    fn lines(&self, to: &mut Vec<u8>) -> Result<()> {
        let (workflow, run, number) = (self.workflow(), self.run(), self.number);
        let head = json!({"index": {
            "_id": format!("{workflow}~{run}"), "version": self.version(), "version_type": "external",
        }});
        let mut document = json!({
            "BuildIds": ["unversioned", "unversioned:3f2a9c1"],
            "CustomerId": format!("customer-{}", number % 20_000),
            "DeliverBy": self.started.saturating_add(SignedDuration::from_hours(72))?,
            "ExecutionStatus": if self.open { "Running" } else { "Completed" },
            "ExecutionTime": self.started,
            "Items": number % 17,
            "Memo": "CkIKBW5vdGVzEjkKFgoIZW5jb2RpbmcSCmpzb24vcGxhaW4SHyJsZWF2ZSBpdCBhdCB0aGUgYmFjayBkb29yIHBsZWFzZSIK\
                     NwoGc291cmNlEi0KFgoIZW5jb2RpbmcSCmpzb24vcGxhaW4SEyJjaGVja291dC13ZWItNy4xMi4wIg==",
            "MemoEncoding": "Proto3",
            "NamespaceId": NAMESPACE,
            "OrderTotal": (number % 90_000) as f64 / 100.0,
            "Region": REGIONS[number % 3],
            "RootRunId": run,
            "RootWorkflowId": workflow,
            "RunId": run,
            "StartTime": self.started,
            "TaskQueue": "orders",
            "VisibilityTaskKey": format!("{}~{}", self.shard(), self.version()),
            "WorkflowId": workflow,
            "WorkflowType": "FulfilOrder",
        });
        if !self.open {
            let took = 30 + number as i64 % 3_600;
            document["CloseTime"] = json!(self.started.saturating_add(SignedDuration::from_secs(took))?);
            document["ExecutionDuration"] = json!(took * 1_000_000_000);
            document["HistoryLength"] = json!(11 + number % 40);
            document["HistorySizeBytes"] = json!(2_311 + number % 9_000);
            document["StateTransitionCount"] = json!(5 + number % 20);
        }
        writeln!(to, "{head}\n{document}")?;
        Ok(())
    }
}

/// Writes the documents, in the order of their runs, and leaves the index as it would be some time later.
pub(crate) fn load(engine: &Engine, index: &str, runs: &[Run]) -> Result<()> {
    let settings = format!("/{index}/_settings");
    engine.call("PUT", &settings, Some(&json!({"index.refresh_interval": "-1"})))?;
    let (bulks, next): (Vec<&[Run]>, _) = (runs.chunks(BULK).collect(), AtomicUsize::new(0));
    let load = || -> Result<()> {
        while let Some(bulk) = bulks.get(next.fetch_add(1, Ordering::Relaxed)) {
            go_on()?;
            let mut lines = Vec::with_capacity(bulk.len() * 1_000);
            for run in *bulk {
                run.lines(&mut lines)?;
            }
            engine.bulk(index, &lines)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let loaders: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(load)).collect();
        loaders.into_iter().try_for_each(|loader| loader.join().ok().context("a loader panicked")?)
    })?;
    engine.call("PUT", &settings, Some(&json!({"index.refresh_interval": null})))?;
    engine.settle(index)
}
