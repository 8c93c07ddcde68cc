//! What two or more reliab tools share, each thing in a module with a noun for a name.
//!
//! Tools never import each other: what they must agree on (the frame of a command, exit codes, output, the state
//! file, the configuration file, locks) is here, and nothing else is.

pub mod app;
pub mod clock;
pub mod config;
pub mod count;
pub mod exit;
pub mod fact;
pub mod failure;
mod journal;
pub mod lock;
pub mod paths;
mod progress;
pub mod record;
pub mod rhythm;
pub mod secret;
pub mod session;
pub mod signal;
pub mod state;
pub mod table;
pub mod ui;
pub mod units;
pub mod upkeep;

#[cfg(test)]
mod testing;
