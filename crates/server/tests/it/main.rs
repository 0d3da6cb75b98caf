//! The server over real sockets, with agents that do what the test tells them.

mod alerts;
mod bench;
mod disk;
mod health;
mod jobs;
mod refusals;
mod repairs;
mod replicas;
mod restart;
mod streams;
