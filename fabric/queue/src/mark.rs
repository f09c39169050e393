//! Congestion, written into a frame (RFC 3168).

use crate::Held;
use wireonce_frame::{
    HEAD_LEN, Headers,
    ecn::{self, Ecn},
};

/// Writes the mark "congestion experienced" into a frame whose ends understand it. True if it was not
/// there before.
pub fn mark(frame: &mut Held) -> bool {
    if !matches!(frame.ecn, Ecn::Ect0 | Ecn::Ect1) {
        return false;
    }
    let len = frame.bytes.len();
    let Some(head) = frame.bytes.get_mut(..len.min(HEAD_LEN)) else { return false };
    let Ok(headers) = Headers::parse(head, len) else { return false };
    let is_new = ecn::read(&headers, head) != Some(Ecn::Ce);
    ecn::write(&headers, head, Ecn::Ce);
    is_new
}
