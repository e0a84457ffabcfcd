//! What is so: the rows of Temporal's `executions` table, read by psql.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use temporalio_protos::temporal::api::common::v1::Payload;
use temporalio_protos::temporal::api::enums::v1::WorkflowExecutionStatus;

use super::{Key, Run, attributes};
use crate::support::cluster::Cluster;

/// Part of `temporal.server.api.persistence.v1.WorkflowExecutionState`, the column `state`.
#[derive(Clone, PartialEq, Message)]
struct State {
    #[prost(string, tag = "2")]
    run_id: String,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(enumeration = "WorkflowExecutionStatus", tag = "4")]
    status: i32,
}

/// Part of `temporal.server.api.persistence.v1.WorkflowExecutionInfo`, the column `data`.
#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "2")]
    workflow_id: String,
    #[prost(string, tag = "10")]
    workflow_type_name: String,
    #[prost(map = "string, message", tag = "52")]
    search_attributes: HashMap<String, Payload>,
    #[prost(map = "string, message", tag = "53")]
    memo: HashMap<String, Payload>,
}

/// Created, running and completed. A zombie, void or corrupted execution is not listed by Temporal either.
const LISTED: std::ops::RangeInclusive<i32> = 1..=3;

/// Every run of the cluster's namespace.
pub(super) fn read(cluster: &Cluster) -> BTreeMap<Key, Run> {
    let query = format!(
        "SELECT encode(run_id, 'hex'), encode(state, 'hex'), encode(data, 'hex'), state_encoding || data_encoding \
         FROM executions WHERE namespace_id = decode(replace('{}', '-', ''), 'hex')",
        cluster.namespace_id
    );
    let rows = cluster.database.psql(&query);
    rows.lines().filter_map(run).collect()
}

fn run(row: &str) -> Option<(Key, Run)> {
    let columns: Vec<&str> = row.split('|').collect();
    let [run_id, state, info, encodings] = columns[..] else { panic!("not a row: {row:.200}") };
    assert_eq!(encodings, "Proto3Proto3");
    let state = State::decode(hex::decode(state).unwrap().as_slice()).unwrap();
    let info = Info::decode(hex::decode(info).unwrap().as_slice()).unwrap();
    assert_eq!(state.run_id.replace('-', ""), run_id, "the row's state is another run's");
    if !LISTED.contains(&state.state) {
        return None;
    }
    let run = Run {
        status: status_name(state.status()),
        kind: info.workflow_type_name,
        attributes: attributes(&info.search_attributes, &info.memo),
    };
    Some(((info.workflow_id, state.run_id), run))
}

/// `WORKFLOW_EXECUTION_STATUS_TIMED_OUT` as `TimedOut`, which is what queries and documents say.
pub(super) fn status_name(status: WorkflowExecutionStatus) -> String {
    camel(status.as_str_name())
}

/// See [`status_name`].
pub(super) fn camel(name: &str) -> String {
    let words = name.trim_start_matches("WORKFLOW_EXECUTION_STATUS_").split('_');
    words.map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase())).collect()
}
