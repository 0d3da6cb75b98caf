//! Whether this machine is well: checks, each with its source, and the monitor that runs them.
//!
//! A [`Check`] looks at one thing and says how it stands: findings that are open, that it cannot
//! see, or that there is none of it here. It has no clock of its own. [`Monitor`] runs each check at
//! its interval and turns what they say into edges: a finding appears, is confirmed, clears. What
//! cannot be read is unknown, never a fault; what was there and is gone as a whole is a failure of
//! the monitor, for no fault takes all of a kind at once without a word elsewhere.

pub mod check;
mod log;
mod monitor;

pub use check::{About, Check, Reading};
pub use log::KernelLog;
pub use monitor::{Edge, EdgeKind, Monitor, Standing, State};

use crate::nvml::{self, NvmlSource};
use crate::system::{self, Expectations, Root};
use std::path::Path;

/// All checks of this machine.
pub fn checks(
    root: &Root,
    expected: &Expectations,
    log_from: log::From,
    nvml: NvmlSource,
) -> Vec<Box<dyn Check>> {
    let log = KernelLog::new(Path::new(&root.path("dev/kmsg")), log_from);
    let mut checks: Vec<Box<dyn Check>> = vec![Box::new(log)];
    checks.extend(nvml::checks(nvml, root, expected));
    checks.extend(system::checks(root, expected));
    checks
}
