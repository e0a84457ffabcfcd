//! The figures, a line each: `NAME ours=… peer=… ratio=… goal=… met|missed`.

use std::process::ExitCode;

/// What was measured, and whether a goal was missed.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    missed: bool,
}

impl Figures {
    /// Rates in documents a second; ours is to be as high as the peer's at least.
    pub(crate) fn rate(&mut self, name: &str, ours: f64, peer: f64) {
        let ratio = ours / peer;
        self.line(&format!("{name} ours={ours:.0}/s peer={peer:.0}/s ratio={ratio:.2} goal=1.00"), ratio >= 1.0);
    }

    /// A figure without a peer, which is to stay below its goal.
    pub(crate) fn below(&mut self, name: &str, ours: f64, goal: f64, unit: &str) {
        self.line(
            &format!("{name} ours={ours:.1}{unit} peer=- ratio={:.2} goal={goal:.0}{unit}", ours / goal),
            ours < goal,
        );
    }

    /// A figure that no goal was set for.
    #[allow(clippy::unused_self, reason = "figures go the same way, whether they count or not")]
    pub(crate) fn known(&self, name: &str, ours: f64, unit: &str) {
        println!("{name} ours={ours:.1}{unit} peer=- ratio=- goal=- met");
    }

    fn line(&mut self, figure: &str, met: bool) {
        println!("{figure} {}", if met { "met" } else { "missed" });
        self.missed |= !met;
    }

    /// The exit code: 1 when a goal was missed.
    pub(crate) fn conclude(&self) -> ExitCode {
        ExitCode::from(u8::from(self.missed))
    }
}

/// The middle one of an odd number of figures.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes as megabytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
