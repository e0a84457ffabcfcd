use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::failures::Shown;
use super::signals;
use crate::daemon::jobs::Site;
use crate::daemon::{Daemon, DaemonError};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::http::Server;

pub(super) async fn run(site: Site) -> Result<Exit, Shown> {
    let http = site.config.http()?;
    let stop = signals::stop_token();
    let policy = site.policies.schedule.clone();
    if policy.timed().next().is_none() {
        let message = format!("no job is scheduled in {}", site.config.policies.join("schedule.yaml").display());
        return Err(Failure::new(Kind::Config, message)
            .with_hint("name at least one under `jobs:`; policies/schedule.yaml as shipped has all of them")
            .into());
    }
    let runner = site.runner().await.map_err(Shown::of)?;
    let jobs = site.jobs();
    let leads = Arc::new(AtomicBool::new(false));
    let server = match http {
        None => None,
        Some(http) => {
            let (site, runner, leads) = (site, runner.clone(), Arc::clone(&leads));
            Some(Server::new(site, runner, http, leads, stop.clone()).await.map_err(Shown::of)?)
        }
    };
    let daemon = Daemon { runner, policy, jobs, leads };
    let served = async {
        match server {
            Some(server) => server.serve().await,
            None => true,
        }
    };
    let led = async {
        let result = daemon.run(stop.clone()).await;
        // One without the other would look alive and do half of its work.
        stop.cancel();
        result
    };
    let (led, all_ended) = tokio::join!(led, served);
    led.map_err(Shown::of)?;
    if !all_ended {
        return Err(Shown::of(DaemonError::Unfinished("runs that were asked for through HTTP".into())));
    }
    Ok(Exit::Done)
}
