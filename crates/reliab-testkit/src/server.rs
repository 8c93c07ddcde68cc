//! Real servers that a test starts.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that ends when dropped.
///
/// It is asked first, as a `PostgreSQL` that is killed leaves its shared memory on the machine; then it is killed.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended, or cannot be asked, is seen to below.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let asked = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && asked.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
