//! The Sessions API: what applications ask by gRPC, who may, and what becomes of sessions whose application dies.

#[path = "sessions_api/access.rs"]
mod access;
#[path = "sessions_api/calls.rs"]
mod calls;
#[path = "sessions_api/certificates.rs"]
mod certificates;
#[path = "sessions_api/gateway.rs"]
mod gateway;
#[path = "sessions_api/misuse.rs"]
mod misuse;
#[path = "sessions_api/scene.rs"]
mod scene;
#[path = "sessions_api/streams.rs"]
mod streams;
