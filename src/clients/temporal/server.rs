//! What kind of server answers, and whether it is well.

use temporalio_protos::grpc::health::v1::HealthCheckRequest;
use temporalio_protos::grpc::health::v1::health_check_response::ServingStatus;
use temporalio_protos::grpc::health::v1::health_client::HealthClient;
use temporalio_protos::temporal::api::workflowservice::v1::{GetClusterInfoRequest, GetSystemInfoRequest};

use super::{Temporal, TemporalError};

/// The frontend's service name in the gRPC health protocol.
const FRONTEND_SERVICE: &str = "temporal.api.workflowservice.v1.WorkflowService";

/// What the server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ServerInfo {
    /// `1.31.0`.
    pub version: String,
    /// The cluster's own name, `active` unless configured.
    pub cluster_name: String,
    /// Number of history shards, fixed for the life of the cluster.
    pub history_shards: u32,
    /// The store of histories and namespaces: `postgres12_pgx`, `cassandra`.
    pub persistence_store: String,
    /// The visibility stores, joined by commas: `elasticsearch`, `postgres12_pgx`.
    pub visibility_store: String,
}

/// Whether the frontend serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It does.
    Serving,
    /// It says that it does not: starting, or shutting down.
    NotServing,
}

/// How well a server version is known to this build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// The test suite runs against this release.
    Supported,
    /// It does not; the text says what is known.
    Untested(String),
}

/// Looks a server version up: 1.31 is tested, the schemas of 1.28 to 1.30 are known.
#[must_use]
pub fn support(version: &str) -> Support {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(1)), Some(Ok(31))) => Support::Supported,
        (Some(Ok(1)), Some(Ok(28..=30))) => {
            Support::Untested(format!("Temporal {version} has a known schema, but only 1.31 is tested"))
        }
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) > (1, 31) => {
            Support::Untested(format!("Temporal {version} is newer than 1.31, the newest release tested"))
        }
        (Some(Ok(_)), Some(Ok(_))) => {
            Support::Untested(format!("Temporal {version} is older than 1.28, the oldest release with a known schema"))
        }
        _ => Support::Untested(format!("`{version}` is not a version of a Temporal server")),
    }
}

impl Temporal {
    /// Version, cluster and stores of the server.
    ///
    /// # Errors
    /// See [`TemporalError`].
    pub async fn server_info(&self) -> Result<ServerInfo, TemporalError> {
        let answer = self
            .read("GetClusterInfo", None, |mut frontend| {
                let request = self.request(GetClusterInfoRequest::default());
                async move { frontend.get_cluster_info(request).await }
            })
            .await?;
        Ok(ServerInfo {
            version: answer.server_version,
            cluster_name: answer.cluster_name,
            history_shards: u32::try_from(answer.history_shard_count).unwrap_or_default(),
            persistence_store: answer.persistence_store,
            visibility_store: answer.visibility_store,
        })
    }

    /// Asks the gRPC health service about the frontend.
    ///
    /// # Errors
    /// See [`TemporalError`]; a frontend that answers "not serving" is no error.
    pub async fn health(&self) -> Result<Health, TemporalError> {
        let request = self.request(HealthCheckRequest { service: FRONTEND_SERVICE.into() });
        let mut client = HealthClient::new(self.wire.clone());
        let answer = self.once("health check", None, client.check(request)).await?;
        Ok(if answer.status == ServingStatus::Serving as i32 { Health::Serving } else { Health::NotServing })
    }

    /// The server's version by the one call that needs no permission. Not retried: it proves a connection.
    pub(super) async fn system_version(&self) -> Result<String, TemporalError> {
        let request = self.request(GetSystemInfoRequest::default());
        let mut frontend = self.frontend();
        Ok(self.once("GetSystemInfo", None, frontend.get_system_info(request)).await?.server_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tested_release_is_supported_and_the_others_say_why() {
        let check = |version: &str, expect: &str| match support(version) {
            Support::Supported => assert_eq!("supported", expect, "{version}"),
            Support::Untested(why) => assert!(why.contains(expect), "{version}: {why}"),
        };
        check("1.31.0", "supported");
        check("v1.31.2-rc.1", "supported");
        check("1.30.4", "known schema");
        check("1.28.0", "known schema");
        check("1.27.9", "older than 1.28");
        check("0.9.1", "older than 1.28");
        check("1.32.0", "newer than 1.31");
        check("2.0.0", "newer than 1.31");
        check("", "not a version");
        check("1", "not a version");
        check("next", "not a version");
    }
}
