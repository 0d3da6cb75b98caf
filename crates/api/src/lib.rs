//! What goes over the wire: between people and the control plane ([`user`]), and between the
//! control plane and its agents ([`agent`]). The [`client`] speaks the first.
//!
//! Times are milliseconds since the Unix epoch, GPU-time is GPU-milliseconds, and every name is
//! in snake_case (ledger columns in kebab-case). The OpenAPI description is `docs/openapi.json`.

pub mod agent;
pub mod client;
pub mod health;
pub mod user;

/// Where requests of either kind begin. It changes only when old clients could not go on.
pub const PREFIX: &str = "/v1";
pub mod work;
