//! The engine against what can happen to a repository: crashes, damage, enemies, and trees of every kind.
//!
//! One program a crate: what others wrote is linked once, and tests that wait run beside tests that work.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod beside;
mod between_names;
mod check;
mod come_and_go;
mod copies;
mod crash;
mod damage;
mod fidelity;
mod forged;
mod hidden;
mod hostile;
mod last_window;
mod linked;
mod packs;
mod preview;
mod properties;
mod sectors;
mod sources;
mod texts;
mod twice;
mod unusual;
