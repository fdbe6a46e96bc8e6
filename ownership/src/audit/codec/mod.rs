//! An event as bytes: what hash chains cover. An event has one form, and bytes that no event has are
//! refused.

mod decode;
mod encode;

use crate::bytes::Bad;
use thiserror::Error;

const FORMAT: u8 = 1;

/// Kinds of event.
const STATE_CHANGE: u8 = 1;
const NODE: u8 = 2;
const PLACEMENT: u8 = 3;
const REFUSAL: u8 = 4;

/// What a session's change came from.
const BIRTH: u8 = 0;
const ATTACH: u8 = 1;
const LOSE_TRANSPORT: u8 = 2;
const REATTACH: u8 = 3;
const FREEZE: u8 = 4;
const ABORT: u8 = 5;
const HAND_OFF: u8 = 6;
const RESUME: u8 = 7;
const TAKE_OVER: u8 = 8;
const ROTATE_KEY: u8 = 9;
const EXPIRE: u8 = 10;
const TERMINATE: u8 = 11;
const TERMINATE_LOST: u8 = 12;

/// What happened to a node.
const REGISTERED: u8 = 1;
const ACCEPTING: u8 = 2;
const DRAINING: u8 = 3;
const FENCED: u8 = 4;

/// What a refusal names.
const HAS_SESSION: u8 = 1;
const HAS_VERSION: u8 = 2;

/// Bytes that are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the audit event is corrupt: its {0} has no meaning")]
pub struct BadEvent(&'static str);

impl From<Bad> for BadEvent {
    fn from(Bad(what): Bad) -> Self {
        Self(what)
    }
}
