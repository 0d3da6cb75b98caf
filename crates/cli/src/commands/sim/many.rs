//! Many runs on all cores, with one bar for all of them.

use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Parts of one run that the bar counts.
const PARTS: f64 = 1000.0;

/// How far one run is.
pub struct Told<'b> {
    bar: &'b ProgressBar,
    parts: u64,
}

impl Told<'_> {
    /// From 0 to 1.
    pub fn tell(&mut self, share: f64) {
        let parts = (share.clamp(0.0, 1.0) * PARTS) as u64;
        self.bar.inc(parts.saturating_sub(self.parts));
        self.parts = self.parts.max(parts);
    }
}

/// Plays runs 0 to `count` - 1 and gives their results in this order, or the first error.
pub fn all<R: Send>(
    count: usize,
    threads: Option<usize>,
    is_quiet: bool,
    play: impl Fn(usize, &mut Told) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or_else(cores).clamp(1, count.max(1));
    let bar = bar(count, is_quiet);
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, Result<R, String>)>> = Mutex::default();
    let work = || {
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= count || is_over.load(Ordering::Relaxed) {
                break;
            }
            let mut told = Told { bar: &bar, parts: 0 };
            let result = catch_unwind(AssertUnwindSafe(|| play(run, &mut told)))
                .unwrap_or_else(|panic| Err(super::words_of(&*panic)));
            is_over.fetch_or(result.is_err(), Ordering::Relaxed);
            told.tell(1.0);
            results.lock().expect("no thread panics while it holds it").push((run, result));
        }
    };
    super::quietly(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    })?;
    bar.finish_and_clear();
    let mut results = results.into_inner().expect("all threads are done");
    results.sort_by_key(|(run, _)| *run);
    results.into_iter().map(|(_, result)| result).collect()
}

fn bar(count: usize, is_quiet: bool) -> ProgressBar {
    let bar = if output::stderr_is_terminal() && !is_quiet {
        ProgressBar::new((count as f64 * PARTS) as u64)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{msg} {bar:30} {percent}%, {eta} left");
    bar.set_style(style.expect("the template is right"));
    bar.set_message(if count == 1 { "1 run".to_string() } else { format!("{count} runs") });
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_runs_and_a_panic_is_an_error() {
        let squares = all(50, Some(3), true, |run, _| Ok(run * run)).unwrap();
        assert_eq!(squares, (0..50).map(|run| run * run).collect::<Vec<_>>());
        let error = all(5, Some(2), true, |run, _| {
            assert!(run != 3, "run {run} is broken");
            Ok(())
        });
        assert_eq!(error, Err("run 3 is broken".to_string()));
    }
}
