//! Any protocol with an id of fixed length at a fixed offset.

use super::{Dissected, Payload};
use crate::service::ServiceRow;

/// The wire id lies where the service's configuration says.
#[inline(always)]
pub(super) fn dissect(payload: Payload, service: &ServiceRow) -> Option<Dissected> {
    let id = payload.id(service.id_offset as usize, service.id_length as usize)?;
    Some(Dissected { id, opens: service.unknown_opens != 0 })
}
