//! The one table of exit codes, and the one place where an outcome or an error becomes one of them.

use crate::failure::Kind;

/// What the process tells its caller. The numbers are stable: scripts and CronJobs rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// A run failed or was refused.
    Failed = 1,
    /// `plan` found changes, or an approval is awaited.
    ChangesPresent = 2,
    /// A comparison found a difference.
    VerificationFailed = 3,
    /// A comparison could not be made; never a pass.
    CouldNotVerify = 4,
    /// The plan or approval was made for another state of the world.
    Stale = 5,
    /// The run failed and what it had done was undone.
    Compensated = 6,
    /// The command line is wrong.
    Usage = 64,
    /// The configuration or a policy is wrong.
    Config = 78,
}

impl Exit {
    /// The exit code of a failure of the given kind.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Failed | Kind::Refused | Kind::Cancelled => Self::Failed,
            Kind::VerificationFailed => Self::VerificationFailed,
            Kind::CouldNotVerify => Self::CouldNotVerify,
            Kind::Awaited => Self::ChangesPresent,
            Kind::Stale => Self::Stale,
            Kind::Compensated => Self::Compensated,
            Kind::Usage => Self::Usage,
            Kind::Config => Self::Config,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
