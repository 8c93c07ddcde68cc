//! Alerts: rules over recorded facts, incidents, the messages owed for them, and their delivery.
//!
//! `reliab alert` reads facts and writes incidents and notifications in one transaction ([`message`] is what a
//! notification says); then it delivers what is owed. Either half may crash anywhere and be run again.
//!
//! A file a command; [`Command`] is the table of them.

pub mod channel;
pub mod deliver;
pub mod evaluate;
pub mod history;
pub mod incident;
pub mod live;
pub mod message;
pub mod outbox;
pub mod pattern;
pub mod ping;
pub mod rule;
pub mod silence;
pub mod simulate;
pub mod store;
pub mod test_command;
pub mod zone;

mod ack;
mod alert;
mod check;
mod commands;
mod list;
mod open;
mod show;
mod silence_command;
mod why;

pub use commands::{AlertArgs, Command, main, refuse_alert, run_command};
