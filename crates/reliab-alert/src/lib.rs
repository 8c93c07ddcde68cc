//! Alerts: rules over recorded facts, incidents, the messages owed for them, and their delivery.
//!
//! `reliab alert` reads facts and writes incidents and notifications in one transaction ([`message`] is what a
//! notification says); then it delivers what is owed. Either half may crash anywhere and be run again.

pub mod evaluate;
pub mod history;
pub mod incident;
pub mod live;
pub mod message;
pub mod pattern;
pub mod rule;
pub mod silence;
pub mod store;
pub mod zone;
