//! The program as its users meet it: command lines, texts, signals, kills, and what works without it.
//!
//! One program a crate: what others wrote is linked once, and tests that wait run beside tests that work.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod as_shown;
mod closed;
mod config;
mod doctor;
mod golden;
mod hooks;
mod install;
mod kill;
mod known_damage;
mod latest;
mod overwrite;
mod peers;
mod recover;
mod reliability_md;
mod restore_preview;
mod restore_twice;
mod signals;
mod status;
mod support;
mod terminal;
mod trust;
