//! `reliab disk`: file systems, inodes, directories and database files, and the day a disk is full.
//!
//! What it finds and how it decides is described in docs/disk.md.

mod answer;
mod check;
pub mod command;
mod database;
mod directory;
mod disks;
mod fit;
pub mod forecast;
mod history;
mod judge;
mod layer;
mod limits;
pub mod mountinfo;
pub mod mounts;
mod nagios;
mod process;
mod question;
mod report;
mod space;
mod sqlite;
mod table;
mod theil_sen;
mod walk;

pub use command::Args;
pub use limits::check_config;
