//! Metrics of services: read from a Prometheus endpoint, counted from one scrape to the next.

mod delta;
mod histogram;
mod reading;
mod selector;
mod text;

pub(crate) mod service;

pub use selector::{Selector, SelectorError};
pub use text::{Sample, TextError, parse};
