//! What several tests share.

pub mod models;
pub mod scripted;
pub mod tolerance;
