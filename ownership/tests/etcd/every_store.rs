//! etcd does what every store must.

use crate::{conformance, fixture::new_store};

conformance! { ? async { new_store().await } }
