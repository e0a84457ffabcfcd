//! Progress on a terminal: one bar for the current stage. Elsewhere a log line per stage.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
        Arc::new(Log)
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
            (Some(_), Unit::Bytes) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
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

    fn note(&self, text: &str) {
        self.current().println(text);
    }
}

#[derive(Debug)]
struct Log;

impl Progress for Log {
    fn stage(&self, name: &str, total: Option<u64>, unit: Unit) {
        let total = total.map(|t| match unit {
            Unit::Bytes => crate::units::human_bytes(t),
            Unit::Items => t.to_string(),
        });
        info!(total, "{name}");
    }

    fn advance(&self, _: u64) {}

    fn note(&self, text: &str) {
        info!("{text}");
    }
}
