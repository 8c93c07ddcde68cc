//! For tests only: scratch trees, a disk that fails on purpose, judges of restored trees, servers that are stopped.

pub mod between_names;
pub mod damage;
pub mod disk;
pub mod engine;
pub mod generator;
pub mod json_schema;
pub mod judge;
pub mod scan;
pub mod server;
pub mod tree;
