//! What people see: a live screen or plain lines, and the table at the end.

pub mod frame;
pub mod report;
pub mod screen;
pub mod text;
