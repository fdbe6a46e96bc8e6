//! The userspace side of Jumpgate: loads the data plane, publishes its tables, keeps the fence.

pub mod dataplane;
