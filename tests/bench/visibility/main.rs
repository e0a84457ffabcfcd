//! `make bench-visibility`: what a reconcile costs, measured beside the engine's own way to move documents.
//!
//! Runs the binary that it finds beside itself against the stack's OpenSearch and PostgreSQL 15, in indices and
//! databases of its own that go away at the end, also after a failure or Ctrl-C. Prints a line for each figure and
//! exits 1 when a goal is missed.

mod carry;
mod database;
mod documents;
mod engine;
mod figures;
mod nothing;
mod sexton;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use figures::Figures;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut bench = tokio::task::spawn_blocking(bench);
    let figures = tokio::select! {
        done = &mut bench => done,
        // What it made is removed on the way out.
        () = async { tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () } } => {
            INTERRUPTED.store(true, Ordering::Relaxed);
            bench.await
        }
    };
    Ok(figures??.conclude())
}

fn bench() -> Result<Figures> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| only.is_empty() || only.iter().any(|arg| arg == part);
    let mut figures = Figures::default();
    if wanted("carry") {
        carry::run(&mut figures)?;
    }
    if wanted("nothing") {
        nothing::run(&mut figures)?;
    }
    Ok(figures)
}

/// Fails once Ctrl-C was pressed.
fn go_on() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { bail!("interrupted") } else { Ok(()) }
}

/// A variable of `tests/stack/env`.
fn stack(name: &str) -> Result<String> {
    std::env::var(format!("STACK_{name}"))
        .with_context(|| format!("STACK_{name} is not set: run tests/stack/up, then eval \"$(tests/stack/env)\""))
}

/// Talk: standard output is for the figures.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "bench-visibility: {text}");
}

/// What no other run of this benchmark has in its names.
fn suffix() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect()
}
