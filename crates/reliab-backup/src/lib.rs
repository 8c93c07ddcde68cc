//! Backup, restore, verify and the commands that look into a repository.
//!
//! One file a command: its arguments (the doc comments are the help), its options once resolved with the
//! configuration and the environment, and what it does. [`Command`] is the table of all of them.

pub mod backup;
pub mod diff;
pub mod export;
pub mod find;
pub mod ls;
pub mod manifest;
pub mod restore;
pub mod snapshots;
pub mod verify;

mod commands;
mod creation;
mod engine_errors;
mod entries;
mod events;
mod known_damage;
mod listing;
mod repo;
mod scratch;
mod stream;
mod tar_archive;
mod terminal;

pub use commands::{Command, run_command};
use reliab_common::{app, failure, session};
