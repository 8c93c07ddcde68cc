//! Probes: is a service up, is it as it should be, and where does the time go?
//!
//! `resolve` makes targets of the configuration, `run` attempts them all in one thread, `report` tells what came of
//! it. Everything that a peer sends is data: bounded, and shown with its control characters escaped.

pub mod json;
pub mod metrics;
pub mod probe;

mod address;
mod attempt;
mod certificate;
mod dial;
mod dns;
mod expect;
mod finding;
mod http;
mod report;
mod resolve;
mod run;
mod socket;
mod target;
mod tcp;
mod tls;
mod trace;
mod uplink;

pub use probe::check_config;
