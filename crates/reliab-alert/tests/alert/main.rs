//! Alerts from facts to receivers: real servers, crashes, clocks, and histories played through.
//!
//! One program a crate: what others wrote is linked once, and tests that wait run beside tests that work.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod alertmanager;
mod channels;
mod clock;
mod command;
mod crash;
mod cutoff;
mod history;
mod journal;
mod life;
mod outbox;
mod ping;
mod receivers;
mod replay;
mod rules;
mod smtp;
mod told;
