//! Probes beside real and hostile servers, and beside the tools that others use.
//!
//! One program a crate: what others wrote is linked once, and tests that wait run beside tests that work.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod blackbox;
mod hostile;
mod metrics;
mod network;
mod phases;
mod runs;
mod speed;
mod support;
mod tls;
