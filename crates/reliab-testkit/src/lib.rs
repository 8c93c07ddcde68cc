//! For tests only: scratch trees, a disk that fails on purpose, and judges of restored trees.

pub mod damage;
pub mod disk;
pub mod engine;
pub mod generator;
pub mod judge;
pub mod scan;
pub mod tree;
