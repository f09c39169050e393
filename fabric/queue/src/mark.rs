//! Congestion, written into a frame (RFC 3168).

use crate::Held;
use wireonce_frame::{
    HEAD_LEN, Headers,
    ecn::{self, Ecn},
};

/// Writes the mark "congestion experienced" into a frame whose ends understand it.
pub fn mark(frame: &mut Held) {
    if !matches!(frame.ecn, Ecn::Ect0 | Ecn::Ect1) {
        return;
    }
    let len = frame.bytes.len();
    let Some(head) = frame.bytes.get_mut(..len.min(HEAD_LEN)) else { return };
    if let Ok(headers) = Headers::parse(head, len) {
        ecn::write(&headers, head, Ecn::Ce);
    }
}
