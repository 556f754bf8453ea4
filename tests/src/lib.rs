//! What several tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]

pub mod desk;
pub mod ink;
pub mod lessons;
pub mod loras;
pub mod models;
pub mod scripted;
pub mod tolerance;
pub mod windmill;
