//! Progress on a terminal: one bar for the current stage. Elsewhere a log line per stage, and one every half minute.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tracing::info;

use crate::progress::{Progress, Unit, silent};

/// A sink that fits where standard error goes.
pub(super) fn sink(quiet: bool) -> Arc<dyn Progress> {
    use std::io::IsTerminal;
    if quiet {
        silent()
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bar(Mutex::new(ProgressBar::hidden())))
    } else {
        Arc::new(Log::default())
    }
}

#[derive(Debug)]
struct Bar(Mutex<ProgressBar>);

impl Bar {
    fn current(&self) -> std::sync::MutexGuard<'_, ProgressBar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.current().finish_and_clear();
    }
}

impl Progress for Bar {
    fn stage(&self, name: &str, total: Option<u64>, unit: Unit) {
        let template = match (total, unit) {
            (Some(_), Unit::Bytes) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left {prefix}",
            (Some(_), Unit::Items) => "{msg} [{bar:30}] {pos}/{len} {eta} left",
            (None, Unit::Bytes) => "{msg} {spinner} {bytes} {bytes_per_sec}",
            (None, Unit::Items) => "{msg} {spinner} {pos}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total.unwrap_or(0)).with_style(style.progress_chars("=> "));
        if total.is_none() {
            bar.unset_length();
        }
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut current = self.current();
        current.finish_and_clear();
        *current = bar;
    }

    fn advance(&self, amount: u64) {
        self.current().inc(amount);
    }

    fn detail(&self, text: &str) {
        self.current().set_prefix(text.to_owned());
    }

    fn note(&self, text: &str) {
        self.current().println(text);
    }
}

/// How often a stage says in the log how far it is.
const EVERY: Duration = Duration::from_secs(30);

/// The stage that goes on, as the log tells of it.
#[derive(Debug)]
struct Stage {
    name: String,
    total: Option<u64>,
    unit: Unit,
    done: u64,
    detail: String,
    begun: Instant,
    told: Instant,
}

#[derive(Debug, Default)]
struct Log(Mutex<Option<Stage>>);

fn amount(of: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => crate::units::human_bytes(of),
        Unit::Items => of.to_string(),
    }
}

impl Stage {
    fn tell(&self) {
        let seconds = self.begun.elapsed().as_secs().max(1);
        let left = self.total.filter(|_| self.done > 0).map(|total| {
            let left = u128::from(total.saturating_sub(self.done)) * u128::from(seconds) / u128::from(self.done);
            crate::units::Span::seconds(u64::try_from(left).unwrap_or(u64::MAX)).to_string()
        });
        let (done, total) = (amount(self.done, self.unit), self.total.map(|total| amount(total, self.unit)));
        let rate = format!("{}/s", amount(self.done / seconds, self.unit));
        let detail = (!self.detail.is_empty()).then_some(&self.detail);
        info!(done, total, rate, left, detail, "{}", self.name);
    }
}

impl Progress for Log {
    fn stage(&self, name: &str, total: Option<u64>, unit: Unit) {
        info!(total = total.map(|total| amount(total, unit)), "{name}");
        let (name, detail, now) = (name.to_owned(), String::new(), Instant::now());
        let stage = Stage { name, total, unit, done: 0, detail, begun: now, told: now };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
    }

    fn advance(&self, amount: u64) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stage) = stage.as_mut() else { return };
        stage.done = stage.done.saturating_add(amount);
        if stage.told.elapsed() >= EVERY {
            stage.told = Instant::now();
            stage.tell();
        }
    }

    fn detail(&self, text: &str) {
        if let Some(stage) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            text.clone_into(&mut stage.detail);
        }
    }

    fn note(&self, text: &str) {
        info!("{text}");
    }
}
