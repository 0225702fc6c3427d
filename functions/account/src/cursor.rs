//! Cursors on the wire: opaque to callers, and good only where they were given.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credits_store::index::{Cursor, InvalidCursor};

/// A cursor as callers see it.
pub(crate) fn write(cursor: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(cursor.as_str())
}

/// The cursor that an earlier answer gave.
pub(crate) fn read(text: &str) -> Result<Cursor, InvalidCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    String::from_utf8(bytes).map_err(|_| InvalidCursor)?.parse()
}
