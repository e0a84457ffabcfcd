use super::failures::Shown;
use super::signals;
use crate::daemon::Daemon;
use crate::daemon::jobs::Site;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};

pub(super) async fn run(site: Site) -> Result<Exit, Shown> {
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
    Daemon { runner, policy, jobs }.run(stop).await.map_err(Shown::of)?;
    Ok(Exit::Done)
}
