//! `reliab status`: what is known of every job, check, incident and message.
//!
//! `overview` is read from the state file in one go and judged by what is `due`; `terminal` and `prometheus` show the same overview.

mod command;
mod due;
mod forget;
mod overview;
mod prometheus;
mod terminal;

pub use command::Args;
