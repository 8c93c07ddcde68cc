//! Alerts: rules over recorded facts, incidents, the messages owed for them, and their delivery.
//!
//! `reliab alert` reads facts and writes incidents and notifications in one transaction ([`message`] is what a
//! notification says); then it delivers what is owed. Either half may crash anywhere and be run again.

pub mod channel;
pub mod deliver;
pub mod message;
pub mod outbox;
pub mod test_command;
