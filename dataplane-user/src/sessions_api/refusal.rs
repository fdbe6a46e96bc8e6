//! What is said of calls that fail.

use super::{REASON_TRAILER, proto::Reason};
use crate::{dataplane::sessions::InsertError, node::Refusal, runtime::Unchanged};
use ownership::{model, pending::NotDone};
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

/// A status with its reason in the trailer.
pub(super) fn status(code: Code, reason: Reason, message: impl Into<String>) -> Status {
    let mut trailers = MetadataMap::new();
    trailers.insert(REASON_TRAILER, MetadataValue::from_static(reason.as_str_name()));
    Status::with_metadata(code, message, trailers)
}

/// A request that has no meaning.
pub(super) fn bad(message: impl Into<String>) -> Status {
    status(Code::InvalidArgument, Reason::BadRequest, message)
}

/// The status for a refusal.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let (code, reason) = kind(refusal);
    status(code, reason, refusal.to_string())
}

/// Its reason.
pub(super) fn reason(refusal: &Refusal) -> Reason {
    kind(refusal).1
}

fn kind(refusal: &Refusal) -> (Code, Reason) {
    match refusal {
        Refusal::NoService { .. } => (Code::NotFound, Reason::NoService),
        Refusal::NoSession(_) => (Code::NotFound, Reason::NoSession),
        Refusal::NoCpu { .. } => (Code::InvalidArgument, Reason::NoCpu),
        Refusal::NoClient(_) | Refusal::ClientFamily { .. } => {
            (Code::InvalidArgument, Reason::BadClient)
        }
        Refusal::NoSlots => (Code::FailedPrecondition, Reason::NoSlots),
        Refusal::FenceShut => (Code::Unavailable, Reason::FenceShut),
        Refusal::Ending => (Code::Unavailable, Reason::NodeStops),
        Refusal::Length { .. } => (Code::InvalidArgument, Reason::WireIdLength),
        Refusal::ForeignSlot { .. } | Refusal::NoneInSlot => {
            (Code::FailedPrecondition, Reason::ForeignSlot)
        }
        Refusal::TakenId(_) | Refusal::Table(InsertError::Taken) => {
            (Code::AlreadyExists, Reason::TakenWireId)
        }
        Refusal::NoWireId { .. } => (Code::NotFound, Reason::NoWireId),
        Refusal::TooManyIds(_) => (Code::ResourceExhausted, Reason::TooManyWireIds),
        Refusal::Table(InsertError::Full { .. }) => (Code::ResourceExhausted, Reason::TableFull),
        Refusal::ContextTooLong { .. } => (Code::InvalidArgument, Reason::ContextTooLong),
        Refusal::IsHeld(_) | Refusal::IsReleased(_) => (Code::Aborted, Reason::Held),
        Refusal::Unchanged(unchanged) => unchanged_kind(unchanged),
        // The rest is about requests that this API has not.
        _ => (Code::Internal, Reason::Other),
    }
}

fn unchanged_kind(unchanged: &Unchanged) -> (Code, Reason) {
    match unchanged {
        Unchanged::Refused(reason) => (model_code(*reason), model_reason(*reason)),
        Unchanged::NotOwned => (Code::NotFound, Reason::NoSession),
        Unchanged::WireIds(_) => (Code::ResourceExhausted, Reason::TooManyWireIds),
        Unchanged::NotDone(not_done) => match not_done {
            NotDone::Lost(_) | NotDone::Superseded | NotDone::Past => {
                (Code::Aborted, Reason::CommittedFirst)
            }
            NotDone::Fenced => (Code::Unavailable, Reason::NodeStops),
            NotDone::Unavailable(_) => (Code::Unavailable, Reason::Store),
        },
        Unchanged::Bad(_) => (Code::Internal, Reason::Other),
    }
}

fn model_code(reason: model::Reason) -> Code {
    match reason {
        model::Reason::StoreUnavailable => Code::Unavailable,
        model::Reason::SwitchRate | model::Reason::SwitchCooldown => Code::ResourceExhausted,
        model::Reason::ConcurrentMutation => Code::Aborted,
        _ => Code::FailedPrecondition,
    }
}

/// The model's reasons have their numbers, from 101 on.
fn model_reason(reason: model::Reason) -> Reason {
    Reason::try_from(100 + i32::from(reason.code())).unwrap_or(Reason::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_model_has_its_name_here() {
        for &reason in model::Reason::ALL {
            let here = model_reason(reason).as_str_name();
            assert_eq!(here.strip_prefix("REASON_"), Some(reason.name()));
        }
    }

    #[test]
    fn a_refusal_names_its_reason_in_the_trailer() {
        let frozen = Refusal::Unchanged(Unchanged::Refused(model::Reason::Frozen));
        let status = refused(&frozen);
        assert_eq!(status.code(), Code::FailedPrecondition);
        let trailer = status.metadata().get(REASON_TRAILER).expect("a reason");
        assert_eq!(trailer, "REASON_FROZEN");
        assert_eq!(status.message(), frozen.to_string());
    }
}
