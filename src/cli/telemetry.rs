//! Logs: lines for people on a terminal, JSON for machines otherwise, always on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use super::Global;
use crate::daemon::runlog::RunLogLayer;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Text on a terminal, JSON otherwise
    Auto,
    /// One line of text per event
    Text,
    /// One JSON object per event
    Json,
}

/// Sets up the subscriber. `RUST_LOG` overrides the level.
pub(super) fn init(global: &Global, service: bool) {
    let terminal = std::io::stderr().is_terminal();
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        // On a terminal a verb shows its result and its progress; the log would say it twice.
        (false, 0) if terminal && !service => "warn,aws_config=error",
        // Of a chain of providers of credentials, each that has none would say so.
        (false, 0) => "sexton=info,warn,aws_config=error",
        (false, 1) => "sexton=debug,info",
        (false, _) => "sexton=trace,debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let json = match global.log_format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = if json {
        layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        layer.with_ansi(terminal).with_target(false).boxed()
    };
    // What a run logs goes to the ledger as well, whatever is shown here.
    let of_runs = RunLogLayer.with_filter(EnvFilter::new("sexton=info,warn,aws_config=error"));
    // A second initialisation happens only in tests; the first one stands.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).with(of_runs).try_init();
}
