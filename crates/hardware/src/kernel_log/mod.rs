//! The kernel log: what drivers and the kernel itself say of a fault.
//!
//! [`record`] takes off what stands around a line, [`xid`] and [`catalogue`] know the numbers of
//! the NVIDIA driver, [`rules`] the words of everybody else, [`fold`] what follows from what.
//! [`Classifier`] puts them together: a line in, a finding or nothing out. It knows the lines
//! before, never those after. [`source`] reads a living log.

pub mod catalogue;
mod classifier;
mod fold;
pub mod record;
pub mod rules;
pub mod score;
pub mod source;
pub mod xid;

pub use classifier::Classifier;
