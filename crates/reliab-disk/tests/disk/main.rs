//! The program beside df, du, psql and mariadb, on real, broken and dead file systems, and on generated and recorded histories.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod command;
mod databases;
mod file_systems;
mod hanging;
mod histories;
mod recorded;
mod support;
