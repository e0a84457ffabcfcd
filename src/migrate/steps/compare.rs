//! The `compare` operation: source and target, table by table, row by row.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Act, Ran, Reversal, StepError};
use crate::backup::difference::{self, Live, Options, Side};
use crate::migrate::hands::Hands;
use crate::migrate::world::{Place, Server};

/// Keys of rows that differ, for each table.
const SHOWN: usize = 5;

/// A comparison of every table of Temporal's databases, source against target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CompareStep {
    /// Tables that are read at once.
    #[serde(default = "default_jobs")]
    pub jobs: usize,
}

const fn default_jobs() -> usize {
    2
}

#[async_trait]
impl Act for CompareStep {
    fn reversal(&self) -> Reversal {
        Reversal::Nothing
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    async fn run(&self, hands: &mut Hands<'_>, _: &Value) -> Result<Ran, StepError> {
        let (source, target) = (hands.place(Server::Source)?, hands.place(Server::Target)?);
        let (mut tables, mut rows) = (0, 0);
        for (left, right) in source.all().iter().zip(target.all()) {
            let live = async |place: &Place, name: &str| {
                Live::open(&place.postgres, name).await.map(|live| Side::Database(Box::new(live)))
            };
            let (left, right) = (live(source, left).await?, live(target, &right).await?);
            let options = Options { jobs: self.jobs, shown: SHOWN };
            let report = difference::compare(left, right, options, None, &hands.ctx).await?;
            report.verdict()?;
            tables += report.tables.len();
            rows += report.tables.iter().filter_map(|table| table.left_rows).sum::<u64>();
        }
        Ok(Ran::once(json!({ "tables": tables, "rows": rows })))
    }
}
