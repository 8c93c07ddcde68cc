//! Stopping when asked to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether the run was asked to stop at its next safe point.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A stop that the first SIGINT or SIGTERM requests; the second kills the process.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down, and only then raises it.
            flag::register_conditional_default(signal, Arc::clone(&stop.0))?;
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Asks the run to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Child;
    use rustix::process::Signal;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_stop_is_shared_by_its_clones() {
        let stop = Stop::default();
        let clone = stop.clone();
        assert!(!clone.requested());
        stop.request();
        assert!(clone.requested());
    }

    #[test]
    #[ignore = "the other process of the test below"]
    fn stops_on_the_first_signal() {
        let stop = Stop::on_signals().unwrap();
        Child::ready();
        while !stop.requested() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Child::ready_and_wait();
    }

    fn check(signal: Signal) {
        let mut child = Child::start::<&str>("signal::tests::stops_on_the_first_signal", &[]);
        child.signal(signal);
        child.wait_until_ready();
        child.signal(signal);
        assert_eq!(child.wait().signal(), Some(signal.as_raw()));
    }

    #[test]
    fn the_first_signal_asks_and_the_second_kills() {
        check(Signal::INT);
        check(Signal::TERM);
    }
}
