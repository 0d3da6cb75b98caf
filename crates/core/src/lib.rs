//! (being written)
pub mod effect;
pub mod event;
